"""The server's HTTP in a thread of the test, over a painter: real sockets, no Ray."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
import httpx
import uvicorn

from optimum_pixart_neuron.serving.drawer import Drawer
from optimum_pixart_neuron.serving.exported import Exported
from optimum_pixart_neuron.serving.server.api import Api
from optimum_pixart_neuron.serving.server.engine import LocalEngine
from optimum_pixart_neuron.serving.server.model import Model
from optimum_pixart_neuron.serving.server.options import ServeOptions
from tests.serving.painter import Painter, exported

GENERATE = "/v1/images/generations"


@dataclass
class Served:
    """A server that runs.

    Attributes:
        url: of it.
        painters: of its models, by name.
        api: of which tests may ask what HTTP does not show, and only what needs no event loop.
        models: likewise.
    """

    url: str
    painters: dict[str, Painter]
    api: Api = field(init=False)
    models: dict[str, Model] = field(init=False)
    loop: asyncio.AbstractEventLoop = field(init=False)

    def ask(self, prompt: str, **fields) -> httpx.Response:
        """The answer to a request for images."""
        return httpx.post(self.url + GENERATE, json={"prompt": prompt, **fields}, timeout=30)

    def run(self, work: Callable) -> object:
        """The result of a coroutine function, run on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(30)


@contextlib.contextmanager
def served(
    *,
    keys: Sequence[str] = (),
    painters: dict[str, Painter] | None = None,
    page: bool = False,
    facts: dict[str, Exported] | None = None,
    **options,
) -> Iterator[Served]:
    painters = painters or {"painter": Painter()}
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = Served(f"http://127.0.0.1:{port}", painters)
    chosen = ServeOptions(exports=["painter"], port=port, **options)
    ready, stop = threading.Event(), None

    async def main() -> None:
        nonlocal stop
        server.loop = asyncio.get_running_loop()
        server.models = {}
        for name, painter in painters.items():
            what = (facts or {}).get(name) or exported(name=name)
            server.models[name] = Model(what, LocalEngine(Drawer(what, painter)))
        server.api = Api(server.models, chosen)
        app = server.api.routes(keys)
        if page:
            from optimum_pixart_neuron.serving.server.page import add_page

            app = add_page(app, [model.exported for model in server.models.values()], chosen, asks_for_key=bool(keys))
        config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        stop = running
        task = asyncio.create_task(running.serve(sockets=[listening]))
        while not running.started and not task.done():
            await asyncio.sleep(0.01)
        ready.set()
        await task
        for model in server.models.values():
            await model.engine.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield server
    finally:
        for painter in painters.values():
            getattr(painter, "gate", threading.Event()).set()
        stop.should_exit = True
        thread.join(20)
        assert not thread.is_alive()

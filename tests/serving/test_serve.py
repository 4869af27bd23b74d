"""pixart-serve from the command to the picture, on Ray and the emulator: it recovers, drains and leaves nothing."""

import base64
import os
import signal
import socket
import threading
import time

import httpx
import psutil
import pytest

from tests.extras import needs
from tests.serving.conftest import alive, drawn_alone, family_of, free_port, named, running, wait_until

pytestmark = [pytest.mark.e2e, needs("ray")]
BOUND_S = 500
"""For whatever is waited for; far more than it takes on a quiet machine."""


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=30).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.soak
def test_a_server_draws_recovers_drains_and_leaves_nothing(export, tmp_path):
    from tests.e2e.conftest import load_ours

    openai = pytest.importorskip("openai", reason="needs the extra serve")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    for name in ("json", "torch", "ray", "secrets"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').write('{name}')\n")
    arguments = (f"tiny={export}", "--port", port, "--no_page", "--default_steps", 1)
    with running("pixart_serve", *arguments, cwd=tmp_path) as process:
        wait_until(lambda: healthy(url) or process.poll() is not None, BOUND_S, "health")
        assert process.poll() is None, process.communicate()
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", timeout=BOUND_S, max_retries=0)
        ask = lambda **more: client.images.generate(prompt="a red cat", model="tiny", extra_body={"seed": 3}, **more)  # noqa: E731
        first = ask().data[0].b64_json
        (replica,) = named(process, "ServeReplica:pixart:export")
        assert replica.nice() == psutil.Process().nice(), "other work on the machine goes before the pictures"
        assert base64.b64decode(first) == drawn_alone(load_ours(export), "a red cat", 3)

        # A rank dies while nobody draws: it shows at once, and the next request is drawn by who takes its place.
        rank = named(process, "emulator.launcher")[-1]
        rank.kill()
        assert not healthy(url)
        assert ask().data[0].b64_json == first

        # Requests on their way are finished, new ones refused, and the command ends.
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(ask().data[0].b64_json))
        asking.start()
        wait_until(lambda: ("pixart_open_requests" in (text := httpx.get(f"{url}/metrics").text)
                   and 'pixart_open_requests{model="tiny"} 1.0' in text) or answers, BOUND_S, "a request")  # fmt: skip
        family = family_of(process)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        took = time.monotonic() - started
        asking.join(10)
        assert process.returncode == 0, process.communicate()
        assert answers in ([first], []), "an answer that is no picture"
        wait_until(lambda: not alive(family), 15, f"the end of {alive(family)}")
        print(f"ended {took:.1f} s after SIGTERM, {'with' if answers else 'without'} the request that was on its way")
    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody listens there any more
    assert not (tmp_path / "ran").exists(), "a file of the user's folder was run"


@pytest.mark.soak
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_server_however_it_ends(export, tmp_path, ending):
    """SIGTERM goes to all of its processes, as `timeout` and systemd send it: Ray is gone before the command."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = (export, "--port", port, "--no_page")
    with running("pixart_serve", *arguments, cwd=tmp_path, prepare=os.setpgrp) as process:
        assert process.stdout.readline() == f"serving at {url}\n"
        family = family_of(process)
        if ending == signal.SIGTERM:
            os.killpg(process.pid, ending)
        else:
            named(process, "commands.pixart_serve")[-1].send_signal(ending)
        process.wait(40)
        assert (process.returncode == 0) == (ending == signal.SIGTERM), process.communicate()
        wait_until(lambda: not alive(family), 60, f"the end of {alive(family)}")
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert list(tmp_path.iterdir()) == []

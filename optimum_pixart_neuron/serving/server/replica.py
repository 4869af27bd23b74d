"""Ray Serve's side of an engine: the replica that holds the cores, and the engine that stands for all replicas."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException

from ..drawer import Drawer
from ..exported import Exported
from ..picture import Kind, Picture
from .engine import LocalEngine
from .messages import Drawn, EngineGone, EngineLost, Step

_TRIES = 3
"""Of a request under which replicas are lost: it may be the request that kills them."""
_PAUSE_S = 1.0
"""Before the next one: longer than a replica takes to end, and Ray Serve to see it."""
_LAST_WORDS_S = 0.5
"""For the answers on their way out of a process that ends itself."""


class Replica:
    """One pipeline. Ends its process when it cannot draw any more, and Ray Serve starts another."""

    def __init__(self, exported: Exported) -> None:
        drawer = Drawer.load(exported)
        drawer.draw([_first_picture(exported)])
        self._drawer = drawer
        self._engine: LocalEngine | None = None

    async def draw(self, pictures: Sequence[Picture], image_format: str) -> list[Drawn]:
        """As `messages.Engine`."""
        return await self._running().draw(pictures, image_format)

    async def watch(self, pictures: Sequence[Picture], image_format: str) -> AsyncGenerator[Step | Drawn, None]:
        """As `messages.Engine`."""
        watching = self._running().watch(pictures, image_format)
        try:
            async for news in watching:
                yield news
        finally:
            await watching.aclose()

    async def problem(self) -> str | None:
        """As `messages.Engine`; a process that cannot draw ends after its answer."""
        engine = self._running()
        problem = await engine.problem()
        if problem:
            engine.refuse(problem)
            self._end()
        return problem

    async def check_health(self) -> None:
        """Ray Serve asks once a second."""
        problem = await self.problem()
        if problem:
            raise EngineLost(problem)

    def _running(self) -> LocalEngine:
        if self._engine is None:  # the constructor runs on no event loop
            self._engine = LocalEngine(self._drawer, on_broken=self._end)
        return self._engine

    def _end(self) -> None:
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, os._exit, 1)


def _first_picture(exported: Exported) -> Picture:
    """Drawn before any other: what cannot be drawn shows at the start. A single step takes a scheduler of its own."""
    kind = Kind(*exported.sizes[0], 2, exported.guidance_scale)
    return Picture(prompt="", negative_prompt="", seed=0, kind=kind)


_LOST = (RayActorError, RayServeException, EngineLost)


class _Tries:
    """Of one request. The caller bounds how long it goes on, which matters where nothing takes a lost one's place."""

    def __init__(self) -> None:
        self._left = _TRIES

    async def another(self, error: Exception) -> None:
        """Wait for the next try; EngineLost where there is none."""
        if not isinstance(error, EngineGone):
            self._left -= 1
        if not self._left:
            raise EngineLost(str(error).splitlines()[0]) from error
        await asyncio.sleep(_PAUSE_S)


class RemoteEngine:
    """Implements `messages.Engine` by the replicas behind a handle of Ray Serve.

    A request whose replica is lost goes to another one, or to the one that takes its place.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def draw(self, pictures: Sequence[Picture], image_format: str) -> list[Drawn]:
        tries = _Tries()
        while True:
            response = self._handle.draw.remote(pictures, image_format)
            try:
                return await response
            except _LOST as error:
                await tries.another(error)
            finally:
                response.cancel()

    async def watch(self, pictures: Sequence[Picture], image_format: str) -> AsyncGenerator[Step | Drawn, None]:
        sent: set[int] = set()
        tries = _Tries()
        while True:
            response = self._handle.options(stream=True).watch.remote(pictures, image_format)
            try:
                async for news in response:
                    if isinstance(news, Drawn):
                        if news.number in sent:
                            continue
                        sent.add(news.number)
                    yield news
                return
            except _LOST as error:
                await tries.another(error)
            finally:
                response.cancel()

    async def problem(self) -> str | None:
        response = self._handle.problem.remote()
        try:
            return await response
        except (RayActorError, RayServeException) as error:
            return f"its replica is lost: {str(error).splitlines()[0]}"
        finally:
            response.cancel()

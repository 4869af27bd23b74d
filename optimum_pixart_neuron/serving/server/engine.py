"""One pipeline that draws for many clients.

While a batch is drawn, what arrives waits; then the oldest picture is drawn with all others of its kind. So a request
that is alone never waits for company, and a busy pipeline runs full.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..drawer import CannotDraw, Drawer, DrawerBroken
from ..encoding import encode
from ..picture import Picture
from .messages import Drawn, EngineGone, EngineLost, Step
from .waiting import Ticket, Waiting


class _Abandoned(Exception):
    """Nobody waits for the batch any more."""


class LocalEngine:
    """Implements `messages.Engine` in this process; to be made where an event loop runs.

    Args:
        drawer: used from one thread of the engine's own.
        on_broken: called once, when the drawer is broken and what was asked of it is answered.
    """

    def __init__(self, drawer: Drawer, on_broken: Callable[[], None] | None = None) -> None:
        self._drawer = drawer
        self._on_broken = on_broken
        self._broken: str | None = None
        self._waiting = Waiting()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drawer")
        self._encoding: set[asyncio.Task] = set()
        self._loop_task = asyncio.get_running_loop().create_task(self._serve())

    async def close(self) -> None:
        """Stop drawing; to be called when nobody waits."""
        self._loop_task.cancel()
        await asyncio.gather(self._loop_task, return_exceptions=True)
        self._thread.shutdown(wait=False)

    async def draw(self, pictures: Sequence[Picture], image_format: str) -> list[Drawn]:
        tickets = [self._ask(Ticket(picture=picture, image_format=image_format)) for picture in pictures]
        try:
            drawn = await asyncio.gather(*(ticket.drawn for ticket in tickets))
        finally:
            _leave(tickets)
        return [Drawn(number, *each) for number, each in enumerate(drawn)]

    async def watch(self, pictures: Sequence[Picture], image_format: str) -> AsyncGenerator[Step | Drawn, None]:
        news: asyncio.Queue[Step | tuple[int, asyncio.Future]] = asyncio.Queue()
        tickets = []
        for number, picture in enumerate(pictures):

            def on_step(done: int, number: int = number, of: int = picture.kind.steps) -> None:
                news.put_nowait(Step(number, done, of))

            def on_done(drawn: asyncio.Future, number: int = number) -> None:
                news.put_nowait((number, drawn))

            ticket = Ticket(picture=picture, image_format=image_format, on_step=on_step)
            ticket.drawn.add_done_callback(on_done)
            tickets.append(self._ask(ticket))
        try:
            left = len(tickets)
            while left:
                item = await news.get()
                if isinstance(item, Step):
                    yield item
                else:
                    left -= 1
                    number, future = item
                    yield Drawn(number, *future.result())
        finally:
            _leave(tickets)

    def refuse(self, reason: str) -> None:
        """Take nothing more: this process is about to end."""
        self._broken = self._broken or reason

    async def problem(self) -> str | None:
        return self._broken or self._drawer.problem()

    def _ask(self, ticket: Ticket) -> Ticket:
        if self._broken:
            ticket.drawn.set_exception(EngineGone(self._broken))
        else:
            self._waiting.add(ticket)
            self._arrived.set()
        return ticket

    async def _serve(self) -> None:
        while self._broken is None:
            batch = self._waiting.take(self._drawer.exported.batch)
            if batch:
                await self._draw(batch)
            else:
                self._arrived.clear()
                await self._arrived.wait()
        while batch := self._waiting.take(1):
            _fail(batch, EngineLost(self._broken))
        if self._on_broken is not None:
            self._on_broken()

    async def _draw(self, batch: list[Ticket]) -> None:
        loop = asyncio.get_running_loop()
        watched = any(ticket.on_step for ticket in batch)

        def after_step(done: int) -> None:  # in the drawing thread
            if all(ticket.drawn.cancelled() for ticket in batch):
                raise _Abandoned
            if watched:
                loop.call_soon_threadsafe(_tell, batch, done)

        try:
            pictures = [ticket.picture for ticket in batch]
            images = await loop.run_in_executor(self._thread, self._drawer.draw, pictures, after_step)
        except _Abandoned:
            return
        except CannotDraw as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for ticket in batch:  # which of them it was
                await self._draw([ticket])
            return
        except DrawerBroken as error:
            self._broken = str(error)
            _fail(batch, EngineLost(self._broken))
            return
        for ticket, image in zip(batch, images):
            task = loop.create_task(self._hand_over(ticket, image, len(batch)))
            self._encoding.add(task)
            task.add_done_callback(self._encoding.discard)

    async def _hand_over(self, ticket: Ticket, image, together: int) -> None:
        """Write the file beside the next drawing."""
        content = await asyncio.to_thread(encode, image, ticket.image_format)
        if not ticket.drawn.done():
            ticket.drawn.set_result((content, together))


def _tell(batch: list[Ticket], done: int) -> None:
    for ticket in batch:
        if ticket.on_step is not None and not ticket.drawn.done():
            ticket.on_step(done)


def _fail(batch: list[Ticket], error: Exception) -> None:
    for ticket in batch:
        if not ticket.drawn.done():
            ticket.drawn.set_exception(error)


def _leave(tickets: list[Ticket]) -> None:
    """Whoever waited has gone, or has everything."""
    for ticket in tickets:
        ticket.drawn.cancel()
        if ticket.drawn.done() and not ticket.drawn.cancelled():
            ticket.drawn.exception()  # seen; otherwise asyncio would log it

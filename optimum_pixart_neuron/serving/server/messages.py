"""What an engine tells of the pictures of one request; these travel between processes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol

from ..picture import Picture


class Step(NamedTuple):
    """Denoising goes on.

    Attributes:
        number: of the picture in the request, from 0.
        step: how many steps are done.
        of: how many there are.
    """

    number: int
    step: int
    of: int


class Drawn(NamedTuple):
    """A picture is there.

    Attributes:
        number: of the picture in the request, from 0.
        content: its file.
        together: how many pictures were drawn with it, itself among them.
    """

    number: int
    content: bytes
    together: int


class EngineLost(RuntimeError):
    """What was to draw is gone, and nothing took its place in time."""


class EngineGone(EngineLost):
    """It was gone before the request came, which therefore is not the cause."""


class Engine(Protocol):
    """Draws the pictures of requests. A call that is cancelled leaves nothing behind that is still drawn for it."""

    async def draw(self, pictures: Sequence[Picture], image_format: str) -> list[Drawn]:
        """Draw all pictures of a request.

        Raises:
            CannotDraw: the pipeline refuses them.
            EngineLost: nobody can draw them now.
        """
        ...

    def watch(self, pictures: Sequence[Picture], image_format: str) -> AsyncGenerator[Step | Drawn, None]:
        """The same, and every step as it is done."""
        ...

    async def problem(self) -> str | None:
        """Why nothing can be drawn now; None when it can."""
        ...

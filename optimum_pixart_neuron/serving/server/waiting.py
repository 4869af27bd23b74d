"""Pictures that wait to be drawn, and which of them are drawn together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ..picture import Picture


@dataclass(eq=False, kw_only=True)
class Ticket:
    """One picture that somebody waits for.

    Attributes:
        image_format: a key of `encoding.FORMATS`.
        on_step: told how many denoising steps are done, on the event loop; None where nobody asks.
        drawn: its result, a `messages.Drawn`; cancelled when nobody waits for it any more.
    """

    picture: Picture
    image_format: str
    on_step: Callable[[int], None] | None = None
    drawn: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Waiting:
    """First come, first served, together with all that is of the same kind."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []

    def add(self, ticket: Ticket) -> None:
        """Put a ticket at the end."""
        self._tickets.append(ticket)

    def take(self, most: int) -> list[Ticket]:
        """The oldest ticket and the next ones of its kind, `most` in all; what nobody waits for is dropped."""
        waiting = [ticket for ticket in self._tickets if not ticket.drawn.cancelled()]
        taken: list[Ticket] = []
        left: list[Ticket] = []
        for ticket in waiting:
            fits = len(taken) < most and ticket.picture.kind == waiting[0].picture.kind
            (taken if fits else left).append(ticket)
        self._tickets = left
        return taken

"""What is found out about one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        found: in a few words.
        remedy: what to do about it, where it keeps an export from working; else empty.
        note: whether it is worth knowing although nothing has to be done.
    """

    found: str
    remedy: str = ""
    note: bool = False

    @property
    def verdict(self) -> str:
        """ "ok", "note" or "BAD"."""
        return "BAD" if self.remedy else "note" if self.note else "ok"

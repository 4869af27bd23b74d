"""What is found out about one thing, and the conclusion of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        what: was looked at.
        found: in a few words.
        remedy: what to do about it, where it keeps an export from working; else empty.
        note: whether it is worth knowing although nothing has to be done.
    """

    what: str
    found: str
    remedy: str = ""
    note: bool = False

    @property
    def verdict(self) -> str:
        """ "ok", "note" or "BAD"."""
        return "BAD" if self.remedy else "note" if self.note else "ok"


def conclusion(findings: Sequence[Finding], *, emulated: bool) -> str:
    """The last sentence: that the machine is ready, or the one thing to do first."""
    first = next((finding for finding in findings if finding.remedy), None)
    if first is not None:
        return f"not ready: {first.what}: {first.remedy}"
    if emulated:
        return "ready, on the emulator: what is exported here runs on no Neuron device"
    return "ready"

"""The table of a diagnosis."""

from __future__ import annotations

from rich.console import Console

from ..terminal.table import table
from .diagnosis import Diagnosis

_COLOURS = {"ok": "green", "note": "yellow", "BAD": "bold red"}


def show(diagnosis: Diagnosis, to: Console) -> None:
    """Print a row for everything that was looked at."""
    columns = ("", "what", "found")
    rows = [
        (f"[{_COLOURS[finding.verdict]}]{finding.verdict}[/]", what, finding.found.replace("[", "\\["))
        for what, finding in diagnosis.findings.items()
    ]
    to.print(table(rows, columns, words=columns))

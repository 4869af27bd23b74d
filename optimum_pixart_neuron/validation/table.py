"""The table of a validation, on standard output."""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from ..artifact.manifest import ValidationRecord
from .compare import near_one

_TITLE = "compiled components against diffusers and transformers in float32, their worst rows"
_WIDTH = 140  # columns, where the output is no terminal


def print_table(records: Sequence[ValidationRecord]) -> None:
    """Print a row for each component, and what its columns mean."""
    table = Table(title=_TITLE, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("component", "max error", "cosine", "PSNR", "limit", "verdict"):
        table.add_column(name, justify="right" if name in ("max error", "cosine", "PSNR") else "left")
    for record in records:
        verdict = "[green]ok[/green]" if record.passed else "[bold red]MISS[/bold red]"
        numbers = (f"{record.max_error:.2g}", near_one(record.cosine), f"{record.psnr:.1f} dB")
        table.add_row(record.component, *numbers, record.limit, verdict)
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDTH).print(table)

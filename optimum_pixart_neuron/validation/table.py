"""The table of a validation."""

import io
import logging
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from ..artifact.manifest import ValidationRecord
from .compare import near_one

logger = logging.getLogger(__name__)

_TITLE = "compiled components against diffusers and transformers in float32, their worst rows"
_WIDTH = 140  # columns of the plain text
_BAR = 30  # characters


def log_table(records: Sequence[ValidationRecord]) -> None:
    """Log a row for each component, and what its columns mean: as text, and as a table of `rich` for terminals."""
    table = Table(title=_TITLE, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("component", "max error", "cosine", "PSNR", "limit", "verdict"):
        table.add_column(name, justify="right" if name in ("max error", "cosine", "PSNR") else "left")
    for record in records:
        verdict = "[green]ok[/green]" if record.passed else "[bold red]MISS[/bold red]"
        numbers = (f"{record.max_error:.2g}", near_one(record.cosine), f"{record.psnr:.1f} dB")
        table.add_row(record.component, *numbers, record.limit, verdict)
    _log(table)
    for record in records:
        if record.ranks_differ:
            logger.info(f"  ranks       {record.component}: {record.ranks_differ}")
        if record.steps:
            _log(_steps(record))


def _steps(record: ValidationRecord) -> Table:
    """The error of each step, drawn as a bar up to what is allowed."""
    title = f"{record.component}: every step from the original's latents, a full bar is the largest error allowed"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, min_width=len(title))
    for name in ("step", "timestep", "max error", "allowed"):
        table.add_column(name, justify="right")
    table.add_column("")
    for number, step in enumerate(record.steps, start=1):
        if step.passed:
            drawn = f"[green]{'█' * round(_BAR * step.max_error / step.allowed) if step.allowed else ''}[/green]"
        else:
            drawn = f"[bold red]{'█' * _BAR} MISS[/bold red]"
        table.add_row(str(number), f"{step.timestep:g}", f"{step.max_error:.2g}", f"{step.allowed:.2g}", drawn)
    return table


def _log(table: Table) -> None:
    text = io.StringIO()
    Console(file=text, width=_WIDTH).print(table)
    logger.info(text.getvalue().removesuffix("\n"), extra={"rich": table})

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


def log_table(records: Sequence[ValidationRecord]) -> None:
    """Log a row for each component, and what its columns mean: as text, and as a table of `rich` for terminals."""
    table = Table(title=_TITLE, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("component", "max error", "cosine", "PSNR", "limit", "verdict"):
        table.add_column(name, justify="right" if name in ("max error", "cosine", "PSNR") else "left")
    for record in records:
        verdict = "[green]ok[/green]" if record.passed else "[bold red]MISS[/bold red]"
        numbers = (f"{record.max_error:.2g}", near_one(record.cosine), f"{record.psnr:.1f} dB")
        table.add_row(record.component, *numbers, record.limit, verdict)
    text = io.StringIO()
    Console(file=text, width=_WIDTH).print(table)
    logger.info(text.getvalue().removesuffix("\n"), extra={"rich": table})

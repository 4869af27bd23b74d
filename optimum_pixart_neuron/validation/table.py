"""The tables of a validation."""

import io
import logging
from collections.abc import Sequence

from rich.table import Table

from ..artifact.manifest_records import ValidationRecord
from ..terminal.table import console, fact, table
from .compare import near_one

logger = logging.getLogger(__name__)

_TITLE = "compiled components against diffusers and transformers in float32, worst rows"
_LIMIT = "limit of error, cosine"
_COLUMNS = ("component", "max error", "cosine", "PSNR", _LIMIT, "")
_BAR = 30  # characters


def log_table(records: Sequence[ValidationRecord]) -> None:
    """Log a row for each program, and what was allowed and why: as text, and as a table of `rich` for terminals."""
    made = table([_row(record) for record in records], _COLUMNS, words=("component", _LIMIT, ""), title=_TITLE)
    _log(made, [record.passed for record in records])
    for record in records:
        if record.ranks_differ:
            logger.info(fact("ranks", f"{record.label}: {record.ranks_differ}"))
        if record.steps:
            _log(_steps(record), [step.passed for step in record.steps])


def _row(record: ValidationRecord) -> tuple[str, ...]:
    figures = f"{record.max_error:.2g}", near_one(record.cosine), f"{record.psnr:.1f} dB"
    limit = record.limit.removeprefix("max error ").replace("cosine ", "").replace(": ", "\n").replace(", as", "\nas")
    return record.label, *figures, limit, "ok" if record.passed else "MISS"


def _steps(record: ValidationRecord) -> Table:
    """The error of each step, drawn as a bar up to what is allowed."""
    rows = []
    for number, step in enumerate(record.steps, start=1):
        if not step.passed:  # its error may be no number
            drawn = f"{'█' * _BAR} MISS"
        else:
            drawn = "█" * round(_BAR * step.max_error / step.allowed) if step.allowed else ""
        rows.append((str(number), f"{step.timestep:g}", f"{step.max_error:.2g}", f"{step.allowed:.2g}", drawn))
    title = f"{record.label}: every step from the original's latents, a full bar is the largest error allowed"
    made = table(rows, ("step", "timestep", "max error", "allowed", ""), words=("",), title=title)
    made.min_width = len(title)  # on one line
    return made


def _log(made: Table, passed: Sequence[bool]) -> None:
    """Log a table whose rows have passed or not."""
    for row, good in zip(made.rows, passed):
        row.style = None if good else "bold red"
    text = io.StringIO()
    console(text).print(made)
    logger.info("\n".join(line.rstrip() for line in text.getvalue().splitlines()), extra={"rich": made})

"""Tables and paragraphs on standard output: one style for all commands, and never a number cut short."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

# Columns: what every default table fits in, and what a paragraph is wrapped to where the output is no terminal.
WIDTH = 80
# Tables take the width that they need: a terminal that is too narrow wraps their lines.
_UNLIMITED = 1000


def console(to: TextIO | None = None) -> Console:
    """Standard output, or `to`; it colours a terminal only."""
    return Console(file=to or sys.stdout, width=_UNLIMITED, highlight=False)


def paragraph(to: Console, text: str, style: str | None = None) -> None:
    """Print a text, wrapped to the terminal."""
    to.print(textwrap.fill(text, shutil.get_terminal_size((WIDTH, 0)).columns), style=style, markup=False)


def table(rows: Iterable[Sequence[str]], titles: Sequence[str], *, words: Sequence[str], title: str = "") -> Table:
    """A table of texts; columns whose titles are not among `words` hold numbers, and are set to the right."""
    made = Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    made.padding = (0, 0, 0, 1)
    for name in titles:
        made.add_column(name, justify="left" if name in words else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def fact(name: str, value: object) -> str:
    """A line of a list of names and values."""
    return f"  {name:<11} {value}"


def duration(seconds: float) -> str:
    """Seconds in three digits or more: `14.2 ms`, `0.772 s`, `12.6 s`, `345 s`."""
    if seconds < 0.1:
        return f"{1000 * seconds:.3g} ms"
    return f"{figure(seconds)} s"


def figure(number: float) -> str:
    """A number in two digits or more, without an exponent: `0.00012`, `0.772`, `12.65`, `1,345`."""
    if 0 < number < 0.01:
        return format(Decimal(f"{number:.2g}"), "f")
    return f"{number:.3f}" if number < 1 else f"{number:,.2f}" if number < 100 else f"{number:,.0f}"

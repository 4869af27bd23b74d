"""Rows of a prompt file as they stand there: text, JSON lines, CSV, Parquet, or a data set of the Hub."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from ...errors import InvalidExportOption, one_line, printable
from .rows import COLUMNS, Cells

_LONGEST_LINE = 1 << 20
"""Characters; a longer line is no prompt."""


def read_prompts(source: str, *, split: str, revision: str | None, ignore_others: bool) -> Iterator[Cells | str]:
    """The rows of a file or data set, in order; for a row that cannot be read a text that says why.

    Args:
        source: a file by its suffix, or the id of a data set on the Hub.
        split, revision: of the data set.
        ignore_others: leave columns out that are none of `COLUMNS`, instead of refusing them.

    Raises:
        InvalidExportOption: there is no such file, it cannot be read, it has no column `prompt`, or one that is not
            known.
    """
    path = Path(source).expanduser()
    if not path.exists():
        if path.suffix in _READERS or source.count("/") > 1 or source.startswith((".", "~", "/")):
            raise InvalidExportOption(f"--prompts {source}: there is no such file")
        rows = _read_hub(source, split, revision)
    elif path.suffix not in _READERS:
        raise InvalidExportOption(f"--prompts {source}: the name must end in {', '.join(_READERS)}")
    else:
        rows = _read_file(path, source)
    return _known(rows, source, ignore_others)


def _read_file(path: Path, source: str) -> Iterator[Cells | str]:
    try:
        yield from _READERS[path.suffix](path)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:  # ValueError: of pyarrow
        raise InvalidExportOption(f"--prompts {source} cannot be read: {one_line(error)}") from None


def _read_text(path: Path) -> Iterator[Cells | str]:
    for line in _lines(path):
        yield {"prompt": line}


def _read_json_lines(path: Path) -> Iterator[Cells | str]:
    for line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"is no JSON: {one_line(error)}"
            continue
        yield row if isinstance(row, dict) else "is no JSON object"


def _lines(path: Path) -> Iterator[str]:
    """Lines that are not blank."""
    with path.open(encoding="utf-8-sig") as file:
        while line := file.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"a line is longer than {_LONGEST_LINE} characters")
            if line.strip():
                yield line.rstrip("\r\n")


def _read_csv(path: Path) -> Iterator[Cells | str]:
    csv.field_size_limit(_LONGEST_LINE)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            extra = row.pop(None, None)  # csv's own name of what has no column
            yield "has more cells than there are columns" if extra else {k: v for k, v in row.items() if v}


def _read_parquet(path: Path) -> Iterator[Cells | str]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()


_READERS: dict[str, Callable[[Path], Iterator[Cells | str]]] = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_hub(source: str, split: str, revision: str | None) -> Iterator[Cells | str]:
    from datasets import load_dataset

    try:
        yield from load_dataset(source, split=split, revision=revision)
    except Exception as error:  # of its readers, of the Hub, of HTTP: too many kinds to name
        raise InvalidExportOption(f"--prompts {source}: the data set cannot be read: {one_line(error)}") from None


def _known(rows: Iterator[Cells | str], source: str, ignore_others: bool) -> Iterator[Cells | str]:
    checked: set[str] = set()
    for row in rows:
        if isinstance(row, str):
            yield row
            continue
        if not ignore_others:
            _refuse_others(row.keys() - checked, source)
            checked |= row.keys()
        yield {name: row[name] for name in COLUMNS if row.get(name) is not None}


def _refuse_others(names: Collection[Any], source: str) -> None:
    for name in sorted(map(str, names)):
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(COLUMNS)}"
            raise InvalidExportOption(
                f"--prompts {source}: unknown column {printable(name)}{hint} (--ignore_other_columns leaves it out)"
            )

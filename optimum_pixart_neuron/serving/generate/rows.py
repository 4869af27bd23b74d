"""Rows of a prompt file as pictures: defaults filled in, limits checked, seeds fixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...components.transformer.spec import GUIDANCE_SCALE, STEPS
from ...errors import printable
from ..exported import Exported
from ..picture import LARGEST_SEED, Kind, Picture, seed_of, series

_A_FOLDER = 1000
"""Rows whose pictures share a folder; file systems and their tools slow down with many more."""


Cells = dict[str, Any]
"""What a row says, by column."""


class RowDefaults(BaseModel):
    """What rows leave open, and the limits of what they say. Numbers may come as text, as from CSV.

    Attributes:
        seed: from which rows without a seed get theirs, see `picture.seed_of`.
        num_images_per_prompt: the seeds of a row's pictures count up from the row's.
        height, width: pixels.
    """

    model_config = ConfigDict(extra="forbid")

    negative_prompt: str = Field("", max_length=100_000)
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    num_images_per_prompt: int = Field(1, ge=1, le=10_000)
    guidance_scale: float = Field(GUIDANCE_SCALE, ge=0, le=1000, allow_inf_nan=False)
    num_inference_steps: int = Field(STEPS, ge=1, le=1000)
    height: int = Field(ge=1, le=1 << 16)
    width: int = Field(ge=1, le=1 << 16)


class _Row(RowDefaults):
    prompt: str = Field(max_length=100_000)


COLUMNS = ("prompt", *RowDefaults.model_fields)
"""What a row may say, named as the pipeline's arguments."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One picture of the job.

    Attributes:
        row: its place among the rows, from 0.
        file_name: in OUT, with forward slashes.
    """

    row: int
    file_name: str
    picture: Picture

    def metadata(self, exported: Exported) -> dict[str, Any]:
        """The line of metadata.jsonl."""
        kind = self.picture.kind
        return {
            "file_name": self.file_name,
            "prompt": self.picture.prompt,
            "negative_prompt": self.picture.negative_prompt,
            "seed": self.picture.seed,
            "height": kind.height,
            "width": kind.width,
            "num_inference_steps": kind.steps,
            "guidance_scale": kind.guidance_scale,
            "row": self.row,
            "export": exported.name,
            "revision": exported.made,
        }


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """A row that names no picture.

    Attributes:
        row: its place among the rows, from 0.
        reason: what is wrong with it.
    """

    row: int
    reason: str


def plan(rows: Iterable[Cells | str], defaults: RowDefaults, suffix: str) -> Iterator[Planned | Unusable]:
    """The pictures of all rows, in order.

    Args:
        suffix: of the files, with the dot.
    """
    given = defaults.model_dump()
    for number, cells in enumerate(rows):
        if isinstance(cells, str):
            yield Unusable(row=number, reason=cells)
            continue
        try:
            row = _Row(**{**given, "seed": seed_of(defaults.seed, number), **cells})
        except ValidationError as error:
            yield Unusable(row=number, reason=_first(error))
            continue
        kind = Kind(row.height, row.width, row.num_inference_steps, row.guidance_scale)
        texts = {"prompt": row.prompt, "negative_prompt": row.negative_prompt}
        for image, picture in enumerate(series(row.num_images_per_prompt, **texts, seed=row.seed, kind=kind)):
            file_name = f"images/{number // _A_FOLDER:06d}/{number:09d}-{image}{suffix}"
            yield Planned(row=number, file_name=file_name, picture=picture)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"has no {name}"
    return f"{name} {printable(first['input'])}: {first['msg'].lower()}"


def batches(pictures: Iterable[Planned], size: int) -> list[list[Planned]]:
    """Pictures of one kind together, `size` at a time, in the order of their first rows."""
    open_batches: dict[Kind, list[Planned]] = {}
    made: list[list[Planned]] = []
    for planned in pictures:
        batch = open_batches.get(planned.picture.kind)
        if batch is None:
            batch = open_batches[planned.picture.kind] = []
            made.append(batch)
        batch.append(planned)
        if len(batch) == size:
            del open_batches[planned.picture.kind]
    return made

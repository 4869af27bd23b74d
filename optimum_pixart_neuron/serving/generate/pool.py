"""A pool of actors on Ray Data, each with the cores of one pipeline, that draws batches of pictures.

What fails is told apart: a picture that the pipeline refuses, which no other try would change; a pipeline that broke
under a batch, whose pictures deserve another try; and an actor or node that is gone, whose batches Ray runs again
elsewhere, with the same bytes as a result.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import PixArtNeuronError, one_line
from ..drawer import CannotDraw, Drawer, DrawerBroken
from ..encoding import encode
from ..exported import Exported
from ..picture import Picture
from ..ray_session import CORES

_MOST_BLOCKS = 10_000
"""Ray Data keeps a record of each; above, one holds several batches, which a lost actor draws again together."""
_RETRIES = 20
"""Of one batch after lost actors and nodes, before the job ends; a batch that kills every actor must end it."""


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What became of one picture.

    Attributes:
        name: of the picture, as it was given.
        content: its file; None where it was not drawn.
        reason: why not.
        final: whether no other try would change that.
    """

    name: str
    content: bytes | None = None
    reason: str = ""
    final: bool = True


Named = tuple[str, Picture]


class _Actor:
    """The class that Ray Data makes its actors of."""

    def __init__(self, exported: Exported, image_format: str) -> None:
        self._drawer = Drawer.load(exported)
        self._image_format = image_format
        self._broken = False

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        if self._broken:
            os._exit(1)  # Ray starts another process in its place, and gives it this batch
        outcomes = self._draw(pickle.loads(item["batch"]))
        return {"outcomes": pickle.dumps(outcomes)}

    def _draw(self, batch: Sequence[Named]) -> list[_Outcome]:
        try:
            images = self._drawer.draw([picture for _, picture in batch])
        except DrawerBroken as error:
            self._broken = True
            return [_Outcome(name=name, reason=str(error), final=False) for name, _ in batch]
        except CannotDraw as error:
            if len(batch) == 1:
                return [_Outcome(name=batch[0][0], reason=str(error))]
            return [outcome for one in batch for outcome in self._draw([one])]
        return [
            _Outcome(name=name, content=encode(image, self._image_format)) for (name, _), image in zip(batch, images)
        ]


def draw_all(
    batches: Sequence[Sequence[Named]], exported: Exported, image_format: str, actors: int
) -> Iterator[list[_Outcome]]:
    """Draw batches in any order; yields the outcomes of one as soon as it is drawn.

    A batch may be drawn twice after a fault, so the outcomes of one picture may come twice; they are equal.

    Raises:
        PixArtNeuronError: no actor can load the export, or actors are lost again and again.
    """
    import ray

    drawn = _dataset(batches, exported, image_format, actors)
    try:
        for row in drawn.iter_rows():
            yield pickle.loads(row["outcomes"])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise PixArtNeuronError(f"the actors cannot draw: {one_line(cause)}") from error


def _dataset(batches: Sequence[Sequence[Named]], exported: Exported, image_format: str, actors: int) -> Any:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # bytes: what is drawn is handed on at once
    items = [{"batch": pickle.dumps(list(batch))} for batch in batches]
    with warnings.catch_warnings():
        # Ray 2.60 names no other way to bound the retries of an actor's task.
        warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
        return ray.data.from_items(items, override_num_blocks=min(len(items), _MOST_BLOCKS)).map(
            _Actor,
            fn_constructor_args=(exported, image_format),
            compute=ActorPoolStrategy(size=min(actors, len(items)), max_tasks_in_flight_per_actor=2),
            resources={CORES: exported.cores},
            num_cpus=0,
            max_task_retries=_RETRIES,
        )

"""The whole of `pixart-generate`, from the prompt file to the folder of pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tqdm import tqdm

from ...errors import InvalidExportOption
from ..encoding import FORMATS
from ..exported import Exported, open_export
from ..ray_session import ray_session, room_for
from .gallery import Gallery
from .options import GenerateOptions
from .pool import draw_all
from .prompts import read_prompts
from .rows import Planned, RowDefaults, Unusable, batches, plan

_ROUNDS = 3
"""Of drawing what a broken pipeline left, from the second on each picture alone: it may be the one that breaks it."""

_log = logging.getLogger(__name__)


def generate(options: GenerateOptions) -> int:
    """Draw what is missing of the pictures of a prompt file.

    Returns:
        the number of rows and pictures that could not be drawn; they are in errors.jsonl.

    Raises:
        PixArtNeuronError: of many kinds; what is written until then is whole, and the same call goes on.
    """
    exported = open_export(options.export, revision=options.revision)
    output = options.output.absolute()
    image_format = FORMATS[options.image_format]
    rows = read_prompts(
        options.prompts,
        split=options.split,
        revision=options.prompts_revision,
        ignore_others=options.ignore_other_columns,
    )
    planned = list(plan(rows, _defaults(options, exported), image_format.suffix))
    if not planned:
        raise InvalidExportOption(f"--prompts {options.prompts}: there is no row in it")
    pictures = [each for each in planned if isinstance(each, Planned)]
    with Gallery(output, exported) as gallery:
        missing = gallery.missing(pictures)
        for each in planned:
            if isinstance(each, Unusable):
                gallery.report(each.row, each.reason)
        if len(missing) < len(pictures):
            _log.warning("%s of %s pictures are there already", len(pictures) - len(missing), len(pictures))
        if missing:
            with ray_session(options.address):
                _draw(missing, exported, options, gallery)
        return gallery.errors


def _defaults(options: GenerateOptions, exported: Exported) -> RowDefaults:
    height, width = exported.sizes[0]
    own = {"guidance_scale": exported.guidance_scale, "num_inference_steps": exported.steps}
    named = options.model_dump(include=set(RowDefaults.model_fields), exclude_none=True)
    return RowDefaults(**{"height": height, "width": width, **own, **named})


def _draw(missing: Sequence[Planned], exported: Exported, options: GenerateOptions, gallery: Gallery) -> None:
    actors = _actors(exported, options)
    with tqdm(
        total=len(missing), unit="image", desc=f"drawing on {actors} x {exported.cores} cores", disable=None
    ) as bar:
        left = list(missing)
        for number in range(_ROUNDS):
            reasons = _round(left, exported, options, gallery, actors, 1 if number else exported.batch, bar)
            left = [each for each in left if each.file_name in reasons]
            if not left:
                break
        for each in left:
            gallery.report(each.row, reasons[each.file_name], each.picture.prompt, each.file_name)
            bar.update()


def _round(
    wanted: Sequence[Planned],
    exported: Exported,
    options: GenerateOptions,
    gallery: Gallery,
    actors: int,
    size: int,
    bar: tqdm,
) -> dict[str, str]:
    """Draw once; returns why a broken pipeline left pictures, by file name."""
    planned = {each.file_name: each for each in wanted}
    reasons = dict.fromkeys(planned, "the pool of actors did not return it")
    named = [[(each.file_name, each.picture) for each in batch] for batch in batches(wanted, size)]
    for outcomes in draw_all(named, exported, options.image_format, actors):
        for outcome in outcomes:
            if outcome.name not in reasons:
                continue  # drawn a second time
            each = planned[outcome.name]
            if outcome.content is not None:
                gallery.add(each, outcome.content)
            elif outcome.final:
                gallery.report(each.row, outcome.reason, each.picture.prompt, each.file_name)
            else:
                reasons[outcome.name] = outcome.reason
                continue
            del reasons[outcome.name]
            bar.update()
    return reasons


def _actors(exported: Exported, options: GenerateOptions) -> int:
    room = room_for(exported.cores)
    if room == 0:
        raise InvalidExportOption(
            f"{options.export} takes {exported.cores} cores of one node, and no node of the Ray has as many"
        )
    return min(room, options.actors or room)

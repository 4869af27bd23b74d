"""Weights of a checkpoint that no program is made from: named, and refused where a fine-tune would be lost."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..terminal.table import fact

if TYPE_CHECKING:  # it imports the host's exporter, which needs the SDK
    from ..components.export_config import ExportConfig

logger = logging.getLogger(__name__)

_BLOCK = re.compile(r"(.*?\.)(\d+)\.")
"""The list and the number of the block that a weight belongs to."""


def check_unused(components: Sequence[ExportConfig]) -> None:
    """Name what the programs of each part leave in its files.

    What none of them reads anything of, such as the encoder of a VAE whose decoder alone is exported, is another
    program's.

    Raises:
        CheckpointError: the files have more blocks than the configuration; names the part and both numbers.
    """
    parts = {component.COMPONENT.part.name: component.source_weights.files for component in components}
    for part, files in parts.items():
        used = {name for one in components if one.COMPONENT.part.name == part for name in one.used_names()}
        ours = {name.partition(".")[0] for name in used}
        unused = sorted(name for name in files if name not in used and name.partition(".")[0] in ours)
        _refuse_lost_blocks(part, used, unused)
        if unused:
            names = "weight is" if len(unused) == 1 else "weights are"
            logger.info(fact("note", f"{part}: {len(unused)} {names} not used, {unused[0]} for one"))


def _refuse_lost_blocks(part: str, used: Iterable[str], unused: Iterable[str]) -> None:
    kept = _blocks(used)
    for blocks, numbers in _blocks(unused).items():
        lost = numbers - kept.get(blocks, numbers)
        if lost:
            count = len(kept[blocks] | lost)
            raise CheckpointError(
                f"{part}: the weights have {count} {blocks.rstrip('.')}, config.json asks for {len(kept[blocks])} of"
                " them; mend config.json, or take the one that belongs to these weights"
            )


def _blocks(names: Iterable[str]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for match in filter(None, map(_BLOCK.match, names)):
        found.setdefault(match[1], set()).add(int(match[2]))
    return found

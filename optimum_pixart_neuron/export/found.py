"""What of a component need not be compiled: its programs may be in an earlier export, or in the compile cache."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .earlier import EarlierExport
from .store import find_program

if TYPE_CHECKING:
    from .compile import CompileJob

logger = logging.getLogger(__name__)


def find_programs(job: CompileJob, earlier: EarlierExport | None) -> dict[str, tuple[bytes, str]]:
    """The files that `job` would compile and that are there; why those of an earlier export are not is logged.

    A file is one whole: NxD compiles programs of several ranks for the layout of weights that the compiler chose for
    the first of them, which no file says (0.15 `_add_layout_optimization_to_remaining_hlo`). So of a file that lacks a
    program none is taken here; the SDK's cache then has each of the others by itself.

    Args:
        earlier: an export that the user named.

    Returns:
        by file, as in `CompileJob.files`: its content, and where it was, in words.

    Raises:
        ArtifactError: the earlier export has one, and damaged.
    """
    found = {}
    if earlier is not None and not job.files:
        logger.info(f"    {job.name} is not taken from {earlier.named}: {earlier.why_not(job.name, ())}")
    for name, recipes in job.files.items():
        file = earlier and earlier.file_of(job.name, recipes)
        if earlier and file:
            found[name] = earlier.program(file).read_bytes(), earlier.named
            continue
        if earlier:
            label = job.name if len(job.files) == 1 else f"{job.name}/{name}"
            logger.info(f"    {label} is not taken from {earlier.named}: {earlier.why_not(job.name, recipes)}")
        cached = find_program(job.cache, recipes)
        if cached is not None:
            found[name] = cached, "the compile cache"
    return found

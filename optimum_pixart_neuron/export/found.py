"""Whether a component has to be compiled: its program may be in an earlier export, or in the compile cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from .compile import CompileJob
from .earlier import EarlierExport
from .store import ProgramStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundPrograms:
    """The files of a component's programs.

    Attributes:
        content: by file, as in `CompileJob.files`.
        place: where they were, in words.
    """

    content: dict[str, bytes]
    place: str


def find_programs(job: CompileJob, earlier: EarlierExport | None) -> FoundPrograms | None:
    """The programs that `job` would compile, if all are there; why those of an earlier export are not is logged.

    Args:
        earlier: an export that the user named.

    Raises:
        ArtifactError: the earlier export has them, and damaged.
    """
    if earlier is not None:
        reason = earlier.why_not(job.name, job.recipes)
        if reason is None:
            content = {name: earlier.program(f"{job.name}/{name}").read_bytes() for name in job.files}
            return FoundPrograms(content, earlier.named)
        logger.info(f"    {job.name} is not taken from {earlier.named}: {reason}")
    store, found = ProgramStore(job.cache), {}
    for name, recipes in job.files.items():
        cached = store.find(recipes)
        if cached is None:
            return None
        found[name] = cached
    return FoundPrograms(found, "the compile cache") if found else None

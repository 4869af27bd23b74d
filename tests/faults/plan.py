"""Which faults are injected: kinds, how many of each and why."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .broken_hub import busy_hub, cut, download, kill, upload
from .damage import damage, foreign
from .fault import SEED, Fault
from .foreign_folder import run_in_foreign_folder
from .full_disk import full_disk
from .hostile import try_hostile
from .killed_export import kill_export
from .planted import plant
from .struck_processes import interrupt, kill_validating, kill_worker, stop_rank
from .threads import draw_in_threads


@dataclass(frozen=True)
class Kind:
    """One row of the plan: how many are injected and why so many; `inject` takes a stage and says how it ended."""

    name: str
    count: int
    inject: Callable
    reason: str
    every_run: bool = True  # one of them in every run of the tests, all of them by `make soak`

    @property
    def faults(self) -> list[Fault]:
        return [Fault(self.name, number) for number in range(self.count)]

    def always(self, fault: Fault) -> bool:
        """Whether it is injected in every run of the tests."""
        return self.every_run and fault.number == random.Random(f"{SEED} {self.name}").randrange(self.count)


KINDS = (
    Kind("kill-export", 18, kill_export, "hours at full size: killed at an operation, a moment or within a file"),
    Kind("kill-upload", 8, partial(kill, upload), "a push is hours too; each kind of its requests is hit"),
    Kind("kill-download", 6, partial(kill, download), "the cache of a killed pull is the next one's start"),
    Kind("cut-upload", 9, partial(cut, upload, ("cut", "lost", "stall")), "more often than processes break"),
    Kind("cut-download", 10, partial(cut, download, ("cut", "lost", "stall", "flip")), "the same, and flipped bits"),
    Kind("busy-hub", 4, busy_hub, "the Hub refuses for a while, or for good"),
    Kind("full-disk", 8, full_disk, "six exports, four of them on a small tmpfs if one can be mounted; two downloads"),
    Kind("worker-killed", 6, kill_worker, "starting, running, validating; each costs two starts", every_run=False),
    Kind("truncated", 10, damage, "a copy that broke"),
    Kind("flipped", 10, damage, "one bit, which only the digests can tell"),
    Kind("removed", 7, damage, "files that a clean-up or a partial copy lost"),
    Kind("foreign", 4, foreign, "shards and programs of another rank, component or export: whole, and wrong"),
    Kind("planted", 10, plant, "what another user may have put beside an output, or a disk has lost: each once"),
    Kind("foreign-folder", 5, run_in_foreign_folder, "modules of a stranger's, while ranks and the validation start"),
    Kind("kill-validating", 5, kill_validating, "while another process of its own validates", every_run=False),
    Kind("interrupted", 7, interrupt, "Ctrl-C while ranks run a program"),
    Kind("stopped-rank", 5, stop_rank, "starting or running; each costs the time it may be idle", every_run=False),
    Kind("hostile", 8, try_hostile, "20 strangers' repositories a fault, beside tests/hostile's", every_run=False),
    Kind("threads", 8, draw_in_threads, "several that draw at once, with other switches", every_run=False),
)

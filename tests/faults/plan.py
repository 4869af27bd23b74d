"""Which faults are injected: kinds, how many of each and why, and the random numbers of each one."""

import os
import random
from dataclasses import dataclass

SEED_VARIABLE = "FAULT_SEED"
SEED = int(os.environ.get(SEED_VARIABLE, "20250807"))
TOTAL = 148


@dataclass(frozen=True)
class Kind:
    """One row of the plan.

    Attributes:
        name: also the start of the ids of its faults.
        count: how many are injected.
        reason: why so many.
        every_run: whether one of them is injected in every run of the tests; otherwise `make soak` injects all.
    """

    name: str
    count: int
    reason: str
    every_run: bool = True


KINDS = (
    Kind("kill-export", 18, "the longest work, hours at full size: killed at an operation, a moment or within a file"),
    Kind("kill-upload", 8, "a push is hours too; each kind of its requests is hit"),
    Kind("kill-download", 6, "the cache of a killed pull is the next one's start"),
    Kind("cut-upload", 9, "connections break more often than processes; three ways, passing and lasting"),
    Kind("cut-download", 10, "the same, and bytes that change on the way"),
    Kind("busy-hub", 4, "the Hub refuses for a while, or for good"),
    Kind("full-disk", 8, "six exports, four of them on a small tmpfs, where one can be mounted; two downloads"),
    Kind("worker-killed", 6, "ranks and their launcher, starting, running, validating; each costs two starts", False),
    Kind("truncated", 10, "a copy that broke"),
    Kind("flipped", 10, "one bit, which only the digests can tell"),
    Kind("removed", 7, "files that a clean-up or a partial copy lost"),
    Kind("foreign", 4, "shards and programs of another rank, component or export: whole, and wrong"),
    Kind("planted", 10, "what another user may have put beside an output, or a disk has lost: each way once"),
    Kind("foreign-folder", 5, "a current folder with modules of a stranger's, while ranks and the validation start"),
    Kind("kill-validating", 5, "an export that is killed while another process of its own validates", False),
    Kind("interrupted", 7, "Ctrl-C while ranks run a program"),
    Kind("stopped-rank", 5, "a rank that is stopped, starting or running; each costs the time it may be idle", False),
    Kind("hostile", 8, "repositories of strangers, 20 a fault, beside those of tests/hostile", False),
    Kind("threads", 8, "several threads that draw at once, with other numbers of them and other switches", False),
)


@dataclass(frozen=True)
class Fault:
    """One fault; what is random about it follows from the seed, its kind and its number, from 0 within the kind."""

    kind: str
    number: int

    @property
    def random(self) -> random.Random:
        """Starts anew each time, so that a fault is the same alone as among the others."""
        return random.Random(f"{SEED} {self}")

    @property
    def always(self) -> bool:
        """Whether it is injected in every run of the tests; `make soak` injects the rest."""
        kind = next(kind for kind in KINDS if kind.name == self.kind)
        return kind.every_run and self.number == random.Random(f"{SEED} {self.kind}").randrange(kind.count)

    def __str__(self) -> str:
        return f"{self.kind}-{self.number:02}"


FAULTS = tuple(Fault(kind.name, number) for kind in KINDS for number in range(kind.count))

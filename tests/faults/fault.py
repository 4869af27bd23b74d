"""One fault, and the random numbers that belong to it."""

import os
import random
from dataclasses import dataclass

SEED_VARIABLE = "FAULT_SEED"
SEED = int(os.environ.get(SEED_VARIABLE, "20250807"))


@dataclass(frozen=True)
class Fault:
    """What is random about it follows from the seed, its kind and its number, from 0 within the kind."""

    kind: str
    number: int

    @property
    def random(self) -> random.Random:
        """Starts anew each time, so that a fault is the same alone as among the others."""
        return random.Random(f"{SEED} {self}")

    def __str__(self) -> str:
        return f"{self.kind}-{self.number:02}"

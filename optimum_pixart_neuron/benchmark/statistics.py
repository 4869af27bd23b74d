"""Percentiles of samples."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

FEWEST_FOR_P99 = 100
"""With fewer samples the 99th percentile lies between the two largest of them."""


class Percentiles(BaseModel):
    """Seconds, interpolated linearly between samples.

    Attributes:
        samples: their number.
        p50, p90, p99: percentiles.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Percentiles":
        """Of at least one sample."""
        p50, p90, p99 = np.percentile(seconds, (50, 90, 99)).tolist()
        return cls(samples=len(seconds), p50=p50, p90=p90, p99=p99)

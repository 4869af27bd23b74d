"""What is published, and the efficiency that is taken from it: one figure for inf2 and trn1, a band for trn2.

The figure is fitted on part of AWS's measurements of PixArt, and tested on the rest. Nobody has published one of
PixArt on trn2, so there a band stands for it, see `TRN2`.

Source: aws-neuron-sdk 81ce03ae, about-neuron/benchmarks/inf2/latency_data_vision_dit.csv (SDK 2.20, inf2.xlarge,
batch 1, P50 of a whole call of the pipeline). Its scripts, archive/src/benchmark/pytorch/pixart_*_benchmark.py, say
how: T5 and VAE decoder in bfloat16 on one core, the guidance pair on two copies of the transformer, diffusers' 20
steps. This is the deployment on one rank here. PixArt-Alpha's transformer, T5 and VAE decoder have the sizes of
PixArt-Sigma's; its prompts have 120 tokens instead of 300.

The efficiency is that of transformer and VAE decoder. T5 is taken at its bound: its matrices are four times as wide,
and the measurements say that 180 more tokens cost it next to nothing. That was seen on Sigma, so Sigma tests the
figure, but not this choice; with T5 at the same efficiency the error at 256 px would be +22 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..hardware import Instance

SOURCE = "AWS's benchmarks of PixArt on inf2.xlarge, SDK 2.20"
INSTANCE = "inf2.xlarge"


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """The hardware's lower bound over the expected time, of every component but those that run at their bound.

    Attributes:
        expected: what rates, costs and the order of rows are computed with.
        low, high: what is published lies between them; equal to `expected` where that is one figure.
        source: where it comes from, for a legend.
    """

    expected: float
    low: float
    high: float
    source: str

    @classmethod
    def of_one(cls, value: float, source: str = "as given") -> Efficiency:
        """One figure."""
        return cls(expected=value, low=value, high=value, source=source)

    @property
    def is_band(self) -> bool:
        return self.low < self.high


FITTED = Efficiency.of_one(0.1627, f"fitted on {SOURCE}")
"""Geometric mean over the measurements that it is fitted on, whose errors are then of one size; computed again by
`tests/planner/test_published.py`."""
_LOW, _HIGH = 0.13, 0.43
TRN2 = Efficiency(
    expected=round((_LOW * _HIGH) ** 0.5, 4),
    low=_LOW,
    high=_HIGH,
    source="published of other diffusion transformers",
)
"""Of one trn2 chip's bfloat16 peak, 1024 px: FLUX.1-lite 8B 40 % (5.91 s for 25 steps), FLUX.2-dev 43 % (8 tensor
ranks) and 28 % (8 tensor x 4 context ranks), Z-Image 19 to 24 % (4 tensor ranks x 2 of guidance); the lowest figure is
13 %. Rates and costs go by the geometric mean of both ends, which is off by the same factor of 1.8 at either."""


def efficiency_of(instance: Instance) -> Efficiency:
    """What a plan for an instance goes by where the user names nothing."""
    return TRN2 if instance.family == "trn2" else FITTED


@dataclass(frozen=True, kw_only=True)
class Published:
    """One measurement of AWS.

    Attributes:
        model: PixArt-Alpha or PixArt-Sigma.
        side: pixels.
        tokens: of a prompt.
        measured_s: seconds an image, P50.
        fitted: whether the efficiency is fitted on it; else it is predicted.
    """

    model: str
    side: int
    tokens: int
    measured_s: float
    fitted: bool


PUBLISHED = (
    Published(model="PixArt-Alpha", side=256, tokens=120, measured_s=0.502587, fitted=True),
    Published(model="PixArt-Alpha", side=512, tokens=120, measured_s=1.769756, fitted=True),
    Published(model="PixArt-Sigma", side=256, tokens=300, measured_s=0.540832, fitted=False),
    Published(model="PixArt-Sigma", side=512, tokens=300, measured_s=1.841882, fitted=False),
)

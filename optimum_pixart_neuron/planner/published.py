"""What AWS published, and the one efficiency figure that is fitted on part of it and tested on the rest.

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

SOURCE = "AWS's benchmarks of PixArt on inf2.xlarge, SDK 2.20"
INSTANCE = "inf2.xlarge"
EFFICIENCY = 0.1627
"""Geometric mean over the measurements that it is fitted on, whose errors are then of one size; computed again by
`tests/planner/test_published.py`."""


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

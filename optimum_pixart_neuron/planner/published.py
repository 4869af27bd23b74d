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
from functools import cache
from math import prod

from ..hardware import get_instance
from .components import ComponentPlan, plan_components
from .geometry import XL_2
from .placement import Deployment
from .request import Request

SOURCE = "AWS's benchmarks of PixArt on inf2.xlarge, SDK 2.20"


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

    @property
    def components(self) -> list[ComponentPlan]:
        """The programs, in AWS's deployment."""
        deployment = Deployment(
            instance=get_instance("inf2.xlarge"), mode=None, ranks=1, guidance_groups=2, exchange=None
        )
        request = Request(height=self.side, width=self.side, sequence_length=self.tokens)
        return plan_components(XL_2, request, deployment)

    @property
    def lower_bound_s(self) -> float:
        """Seconds that the hardware takes at least."""
        return sum(part.lower_bound_s for part in self.components)

    @property
    def predicted_s(self) -> float:
        """Seconds at the fitted efficiency."""
        return sum(part.expected_s(fitted_efficiency()) for part in self.components)

    @property
    def efficiency(self) -> float:
        """The efficiency at which the prediction would be the measurement."""
        text, *image = self.components
        return sum(part.lower_bound_s for part in image) / (self.measured_s - text.lower_bound_s)

    @property
    def error(self) -> float:
        """Of the prediction, relative to the measurement."""
        return self.predicted_s / self.measured_s - 1


PUBLISHED = (
    Published(model="PixArt-Alpha", side=256, tokens=120, measured_s=0.502587, fitted=True),
    Published(model="PixArt-Alpha", side=512, tokens=120, measured_s=1.769756, fitted=True),
    Published(model="PixArt-Sigma", side=256, tokens=300, measured_s=0.540832, fitted=False),
    Published(model="PixArt-Sigma", side=512, tokens=300, measured_s=1.841882, fitted=False),
)


@cache
def fitted_efficiency() -> float:
    """The geometric mean over the measurements it is fitted on: their errors are then of one size."""
    ratios = [each.efficiency for each in PUBLISHED if each.fitted]
    return prod(ratios) ** (1 / len(ratios))

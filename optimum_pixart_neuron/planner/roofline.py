"""How long the hardware takes at least: for each resource of a core, the work over its peak.

The longest of them bounds a program, as if all of them overlapped perfectly. Left out, because a lower bound may:
every other operation of the Vector and Scalar Engines, activations that leave the on-chip memory, the start of
collectives, and the host.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import torch

from ..hardware import Instance
from ..program.cost import Cost
from ..program.program import Collective


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Seconds of one run of a program.

    Attributes:
        matmul: of the Tensor Engine.
        softmax: of the Scalar Engine, for the exponentials of softmaxes.
        weights: of the core's share of the device memory's bandwidth, to read them once.
        traffic: of that bandwidth, for what collectives send and receive.
        link: of NeuronLink, between chips.
    """

    matmul: float
    softmax: float
    weights: float
    traffic: float
    link: float

    @classmethod
    def of(cls, cost: Cost, instance: Instance, dtype: torch.dtype) -> Bound:
        """The bound of one core's program on an instance; matrix products are in `dtype`, bfloat16 or float32."""
        chip = instance.chip
        cores = chip.physical_cores // instance.default_lnc
        flops = chip.bf16_flops if dtype == torch.bfloat16 else chip.fp32_flops
        crossing = sum(bytes_over_link(each, cores) * count for each, count in cost.collectives.items())
        return cls(
            matmul=cost.array_flops * cores / flops,
            softmax=cost.exponentials * cores / chip.exponentials,
            weights=cost.read * cores / chip.hbm_bandwidth,
            traffic=2 * cost.bytes_sent * cores / chip.hbm_bandwidth,
            link=crossing / instance.link_bandwidth if instance.link_bandwidth else 0.0,
        )

    @property
    def resources(self) -> dict[str, float]:
        """Seconds by resource."""
        hbm = self.weights + self.traffic
        return {"matmul": self.matmul, "softmax": self.softmax, "hbm": hbm, "link": self.link}

    @property
    def by(self) -> str:
        """The resource that bounds."""
        return max(self.resources, key=lambda name: self.resources[name])

    @property
    def seconds(self) -> float:
        """The lower bound."""
        return max(self.resources.values())

    @property
    def unhidden_seconds(self) -> float:
        """The same where no collective overlaps with computing: in a block each needs the result of the other."""
        return max(self.matmul, self.softmax, self.weights) + max(self.traffic, self.link)


def bytes_over_link(collective: Collective, cores_per_chip: int) -> float:
    """Bytes that cross the link of a chip in one direction in one collective, the most of any chip.

    A bound for every algorithm, with ranks on adjacent cores: what a chip lacks comes in once. Cores of one chip meet
    in its memory.
    """
    crossing: dict[int, float] = defaultdict(float)
    for group in collective.groups:
        on_chip = Counter(rank // cores_per_chip for rank in group)
        for chip, members in on_chip.items():
            others = len(group) - members
            reduced = collective.size * (len(on_chip) - 1) / len(on_chip)
            crossing[chip] += {
                "all-reduce": 2 * reduced,
                "reduce-scatter": reduced,
                "all-gather": collective.size * others,
                "all-to-all": collective.size * members * others / len(group),
            }[collective.kind]
    return max(crossing.values())

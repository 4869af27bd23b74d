"""How long the hardware takes at least: for each resource of a core, the work over its peak.

The longest of them bounds a program, as if all of them overlapped perfectly. Left out, because a lower bound may:
every other operation of the Vector and Scalar Engines, activations that leave the on-chip memory, the start of
collectives, and the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..hardware import Instance
from .flops import Work
from .traffic import Collectives


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Seconds of one run of a program.

    Attributes:
        matmul: of the Tensor Engine.
        softmax: of the Scalar Engine, for the exponentials of softmaxes.
        weights: of the core's share of the device memory's bandwidth, to read them once.
        exchange: of that bandwidth, for what collectives send and receive.
        link: of NeuronLink, between chips.
    """

    matmul: float
    softmax: float
    weights: float
    exchange: float
    link: float

    @property
    def resources(self) -> dict[str, float]:
        """Seconds by resource."""
        hbm = self.weights + self.exchange
        return {"matmul": self.matmul, "softmax": self.softmax, "hbm": hbm, "link": self.link}

    @property
    def by(self) -> str:
        """The resource that bounds."""
        return max(self.resources, key=self.resources.get)

    @property
    def seconds(self) -> float:
        """The lower bound."""
        return max(self.resources.values())

    @property
    def unhidden_seconds(self) -> float:
        """The same where no collective overlaps with computing: in a block each needs the result of the other."""
        return max(self.matmul, self.softmax, self.weights) + max(self.exchange, self.link)


def bound(work: Work, bytes_read: int, collectives: Iterable[Collectives], instance: Instance, dtype: str) -> Bound:
    """The bound of one core's program on the logical cores of an instance.

    Args:
        bytes_read: of weights.
        dtype: of matrix products, "bfloat16" or "float32".
    """
    chip, collectives = instance.chip, list(collectives)
    cores_per_chip = chip.physical_cores // instance.default_lnc
    flops = chip.bf16_flops if dtype == "bfloat16" else chip.fp32_flops
    crossing = sum(each.bytes_over_link(cores_per_chip) for each in collectives)
    link = crossing / instance.link_bandwidth if crossing else 0.0
    weights = bytes_read * cores_per_chip / chip.hbm_bandwidth
    exchanged = 2 * sum(each.bytes_sent for each in collectives) * cores_per_chip / chip.hbm_bandwidth
    return Bound(
        matmul=work.array_flops * cores_per_chip / flops,
        softmax=work.exponentials * cores_per_chip / chip.exponentials,
        weights=weights,
        exchange=exchanged,
        link=link,
    )

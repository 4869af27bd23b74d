"""Whether an export fits: device memory of each component against what a logical core has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidExportOption
from ..hardware import Instance

if TYPE_CHECKING:  # a plan compares with the memory of a core without torch
    from ..parallel.shard_writer import ShardedWeight
    from .program import TracedProgram

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """Bytes of one core for one component.

    Attributes:
        component: its name.
        weights: of one rank, as often as the core holds them.
        activations: the largest set of values alive at once, before the compiler tiles or fuses anything; of the
            program that has the largest.
    """

    component: str
    weights: int
    activations: int

    @classmethod
    def of(
        cls,
        component: str,
        programs: Sequence[TracedProgram],
        weights: dict[str, ShardedWeight],
        ranks: int,
        *,
        copies: int = 1,
    ) -> MemoryNeed:
        """Count a traced component.

        Args:
            programs: of the component; any one of them runs at a time.
            weights: divided over `ranks`.
            copies: that a core holds of them.
        """
        from ..aten_graph import largest_live_set

        graphs = [program.graph for program in programs]
        return cls(
            component=component,
            weights=copies * sum(weight.rank_bytes(ranks) for weight in weights.values()),
            activations=max(largest_live_set(each.graph_module.graph, len(each.weight_names)) for each in graphs),
        )

    def __str__(self) -> str:
        return f"{self.component} {self.weights / GIB:.2f} GiB weights, {self.activations / GIB:.2f} GiB activations"


def core_bytes(needs: list[MemoryNeed]) -> int:
    """What one core holds: all weights and, at any time, one program's activations.

    The programs of a core run in turns, so one scratch space, as large as the largest of them needs, is assumed for
    all. Their instructions are not counted.
    """
    return sum(need.weights for need in needs) + max(need.activations for need in needs)


def check_memory(needs: list[MemoryNeed], instance: Instance, lnc: int) -> str:
    """Compare with the memory of one core.

    Returns:
        one line that states the need.

    Raises:
        InvalidExportOption: it does not fit; names both sizes and what to change.
    """
    available = instance.hbm_bytes_per_core(lnc)
    weights = sum(need.weights for need in needs)
    largest = max(needs, key=lambda need: need.activations)
    total = core_bytes(needs)
    line = (
        f"{total / GIB:.2f} of {available / GIB:.0f} GiB a core: {weights / GIB:.2f} weights,"
        f" {largest.activations / GIB:.2f} activations of {largest.component}"
    )
    if total > available:
        raise InvalidExportOption(
            f"does not fit {instance.name}: {line}; use a larger --tensor_parallel_size, a smaller --height, --width,"
            " --batch_size or --vae_tile_size, or --torch_dtype bfloat16"
        )
    return line

"""Whether an export fits: device memory of each component against what a logical core has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import InvalidExportOption
from ..hardware import GIB, Instance

_MIB = 1024**2
_NO_MEMORY = "can't allocate memory"
"""Of torch's allocator (2.8 to 2.13, `c10/core/impl/alloc_cpu.cpp`), which raises a RuntimeError."""


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
    unit = _MIB if total < GIB else GIB
    line = (
        f"{total / unit:.2f}{' MiB' if unit == _MIB else ''} of {available / GIB:.0f} GiB a core:"
        f" {weights / unit:.2f} weights, {largest.activations / unit:.2f} activations of {largest.component}"
    )
    if total > available:
        raise InvalidExportOption(
            f"does not fit {instance.name}: {line}; use a larger --tensor_parallel_size, a smaller --height, --width,"
            " --batch_size or --vae_tile_size, or --torch_dtype bfloat16"
        )
    return line


@contextmanager
def within_host_memory() -> Iterator[None]:
    """Refuse, by InvalidExportOption, what this machine cannot even describe: tracing makes the inputs of a run."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and _NO_MEMORY not in str(error):
            raise
        raise InvalidExportOption(
            "the memory of this machine does not hold the inputs of one run; use a smaller --batch_size,"
            " --num_images_per_prompt or --sequence_length"
        ) from None

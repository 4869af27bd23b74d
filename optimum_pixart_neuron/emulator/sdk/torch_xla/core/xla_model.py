"""Emulated torch_xla.core.xla_model: signatures of torch_xla 2.8, collectives by the emulator's operators.

`groups` is the whole mesh of replica groups, as neuronx-distributed passes it; None means all ranks.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from optimum_pixart_neuron.emulator.collectives import default_mesh, flatten_mesh

from .. import runtime

REDUCE_SUM = "sum"
REDUCE_MUL = "mul"
REDUCE_AND = "and"
REDUCE_OR = "or"
REDUCE_MIN = "min"
REDUCE_MAX = "max"

Groups = list[list[int]] | None


def _mesh(groups: Groups) -> tuple[list[int], int]:
    return flatten_mesh(groups if groups else default_mesh())


def _refuse_pinned_layout(name: str, pin_layout: bool, group_size: int) -> None:
    """Pinned, the lowering pads by the tracing rank's constant offset, so that all ranks of a program write slot 0."""
    if pin_layout and group_size > 1:
        raise RuntimeError(f"xm.{name} with pin_layout=True is wrong in SPMD programs: pass pin_layout=False")


def all_reduce(
    reduce_type: str,
    inputs: Tensor | list[Tensor],
    scale: float = 1.0,
    groups: Groups = None,
    pin_layout: bool = True,
) -> Tensor | list[Tensor]:
    """Reduce over each group. A tensor gives a new tensor; a list is reduced in place and returned."""
    ranks, size = _mesh(groups)
    reduce = torch.ops.neuron_emulator.all_reduce
    if isinstance(inputs, Tensor):
        return reduce(inputs, reduce_type, float(scale), ranks, size)
    for tensor in inputs:
        tensor.copy_(reduce(tensor, reduce_type, float(scale), ranks, size))
    return inputs


def all_gather(
    value: Tensor,
    dim: int = 0,
    groups: Groups = None,
    output: Tensor | None = None,
    pin_layout: bool = True,
    channel_id: int | None = None,
    use_global_device_ids: bool | None = None,
) -> Tensor:
    """Concatenate the group's tensors along `dim`; RuntimeError with `pin_layout=True`."""
    ranks, size = _mesh(groups)
    _refuse_pinned_layout("all_gather", pin_layout, size)
    return _into(output, torch.ops.neuron_emulator.all_gather(value, dim, ranks, size))


def reduce_scatter(
    reduce_type: str,
    input: Tensor,
    scale: float,
    scatter_dim: int,
    shard_count: int,
    groups: Groups = None,
    output: Tensor | None = None,
    pin_layout: bool = True,
    channel_id: int | None = None,
    use_global_device_ids: bool | None = None,
) -> Tensor:
    """Reduce over each group and keep this rank's share of `scatter_dim`; `shard_count` must be the group size."""
    ranks, size = _mesh(groups)
    if shard_count != size:
        raise RuntimeError(f"reduce_scatter: shard_count {shard_count} differs from the group size {size}")
    scattered = torch.ops.neuron_emulator.reduce_scatter(input, reduce_type, float(scale), scatter_dim, ranks, size)
    return _into(output, scattered)


def all_to_all(
    value: Tensor,
    split_dimension: int,
    concat_dimension: int,
    split_count: int,
    groups: Groups = None,
    pin_layout: bool = True,
) -> Tensor:
    """Exchange shares of `split_dimension`, joined along `concat_dimension`; RuntimeError with `pin_layout=True`."""
    ranks, size = _mesh(groups)
    _refuse_pinned_layout("all_to_all", pin_layout, size)
    if split_count != size:
        raise RuntimeError(f"all_to_all: split_count {split_count} differs from the group size {size}")
    return torch.ops.neuron_emulator.all_to_all(value, split_dimension, concat_dimension, ranks, size)


def collective_permute(value: Tensor, pairs: list[list[int]]) -> Tensor:
    """Send along (source, target) pairs; a rank that is no target gets zeros."""
    return torch.ops.neuron_emulator.collective_permute(value, [int(rank) for pair in pairs for rank in pair])


def _into(output: Tensor | None, value: Tensor) -> Tensor:
    return value if output is None else output.copy_(value)


def xla_device(n: int | None = None, devkind: str | None = None) -> torch.device:
    """The CPU: the emulator moves nothing to an XLA device."""
    return torch.device("cpu")


def is_xla_tensor(tensor: Tensor) -> bool:
    """Always False: tensors stay on the CPU."""
    return False


def mark_step(wait: bool = False) -> None:
    """Nothing is pending: operations outside compiled programs run at once."""


def wait_device_ops(devices: Iterable[str] = ()) -> None:
    """Nothing is pending, as in `mark_step`."""


def rendezvous(tag: str, payload: bytes = b"", replicas: Iterable[int] = ()) -> list[bytes]:
    """A meeting of the one process there is."""
    return [payload]


def get_ordinal() -> int:
    """Index of this process among all."""
    return runtime.global_ordinal()


def get_local_ordinal() -> int:
    """Index of this process on its host."""
    return runtime.local_ordinal()


def xrt_world_size() -> int:
    """Number of processes."""
    return runtime.world_size()


def is_master_ordinal(local: bool = True) -> bool:
    """Whether this process is the first."""
    return (runtime.local_ordinal() if local else runtime.global_ordinal()) == 0


def master_print(*args, fd=None, local: bool = False, flush: bool = False) -> None:
    """Print in the first process only."""
    if is_master_ordinal(local):
        print(*args, file=fd, flush=flush)


def save(data: object, file_or_path: Any, master_only: bool = True, global_master: bool = False) -> None:
    """`torch.save` in the first process."""
    if not master_only or is_master_ordinal(not global_master):
        torch.save(data, file_or_path)

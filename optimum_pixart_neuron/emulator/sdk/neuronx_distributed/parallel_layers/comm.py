"""Collectives over a group's whole mesh (NxD 0.15 `parallel_layers/comm.py`, the XLA side)."""

from typing import Any

import torch
import torch_xla.core.xla_model as xm

from ..utils import cpu_mode

Groups = Any  # a group, or the mesh itself


def _mesh(groups: Groups) -> list[list[int]]:
    """Every rank row of the group, because one program holds the collective for all ranks."""
    if cpu_mode():
        raise RuntimeError("NXD_CPU_MODE is not emulated: unset it, the emulator itself runs the ranks of a program")
    return groups if isinstance(groups, list) else groups._mesh


def all_reduce(
    op_type: str, tensor_bucket: torch.Tensor | list[torch.Tensor], groups: Groups, pin_layout: bool = True
) -> list[torch.Tensor]:
    """Reduce over the group; a lone tensor comes back as a list of one. The inputs are overwritten, as on XLA."""
    tensors = [tensor_bucket] if isinstance(tensor_bucket, torch.Tensor) else tensor_bucket
    return xm.all_reduce(op_type, tensors, groups=_mesh(groups), pin_layout=pin_layout)


def all_gather(
    input: torch.Tensor,
    dim: int = 0,
    groups: Groups | None = None,
    output: torch.Tensor | None = None,
    pin_layout: bool = True,
) -> torch.Tensor:
    """Concatenate the group's tensors along `dim`."""
    return xm.all_gather(input, dim=dim, groups=_mesh(groups), output=output, pin_layout=pin_layout)


def reduce_scatter(
    reduce_type: str,
    input: torch.Tensor,
    scale: float,
    scatter_dim: int,
    shard_count: int,
    groups: Groups | None = None,
    output: torch.Tensor | None = None,
    pin_layout: bool = True,
) -> torch.Tensor:
    """Reduce over the group and keep this rank's slice of `scatter_dim`."""
    return xm.reduce_scatter(
        reduce_type,
        input,
        scale=scale,
        scatter_dim=scatter_dim,
        shard_count=shard_count,
        groups=_mesh(groups),
        output=output,
        pin_layout=pin_layout,
    )

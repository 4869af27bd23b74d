"""Collective operators of compiled programs: `torch.ops.neuron_emulator.{all_reduce,all_gather,...}`.

Every operator is functional and carries the whole mesh of replica groups, flattened row by row (`ranks`) with the size
of a row (`group_size`). A program is compiled once and run by every rank, so the row is picked at run time from the
rank that really executes: nothing rank-dependent is stored in the program. Outside a worker there is no rank, and the
operators raise.

Data moves as bytes over gloo, and reductions are summed locally in rank order, in the tensor's own dtype: every dtype
works (gloo itself lacks some), all ranks hold bit-identical results, and bf16 rounds as a bf16 reduction does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

NAMESPACE = "neuron_emulator"

# A mesh: rows of equal length that together name every rank once.
Mesh = tuple[tuple[int, ...], ...]

_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")


@dataclass
class WorkerRank:
    """What a worker process knows of itself: its rank, the number of ranks, and one process group per mesh."""

    rank: int
    world_size: int
    groups: dict[Mesh, dist.ProcessGroup]


_worker: WorkerRank | None = None
_traced_world_size: int | None = None


def enter_worker(worker: WorkerRank) -> None:
    """Make this process a rank; called once, by the worker, after its process group is up."""
    global _worker
    _worker = worker


@contextmanager
def tracing(world_size: int) -> Iterator[None]:
    """Within it `default_mesh` knows how many ranks the program that is being traced will run on."""
    global _traced_world_size
    previous, _traced_world_size = _traced_world_size, world_size
    try:
        yield
    finally:
        _traced_world_size = previous


def is_tracing() -> bool:
    """Whether a program is being traced."""
    return _traced_world_size is not None


def default_mesh() -> list[list[int]]:
    """The mesh that `groups=None` stands for: all ranks of the program being traced, or of this worker."""
    if _traced_world_size is not None:
        return [list(range(_traced_world_size))]
    return [list(range(_require_worker("collective").world_size))]


def as_mesh(ranks: list[int], group_size: int) -> Mesh:
    """Rows of a flattened mesh."""
    return tuple(tuple(ranks[start : start + group_size]) for start in range(0, len(ranks), group_size))


def flatten_mesh(groups: list[list[int]]) -> tuple[list[int], int]:
    """Flat ranks and row length of a mesh; ValueError when rows differ in length or share a rank."""
    sizes = {len(row) for row in groups}
    ranks = [int(rank) for row in groups for rank in row]
    if len(sizes) != 1 or 0 in sizes or len(set(ranks)) != len(ranks):
        raise ValueError(f"replica groups {groups}: rows must have one length and name each rank once")
    return ranks, sizes.pop()


def check_mesh(mesh: Mesh, world_size: int) -> None:
    """Raise ValueError unless the mesh names each of `world_size` ranks exactly once, as XLA's replica groups must."""
    if sorted(rank for row in mesh for rank in row) != list(range(world_size)):
        raise ValueError(f"replica groups {[list(row) for row in mesh]} must name each of {world_size} ranks once")


def create_groups(meshes: list[Mesh], rank: int) -> dict[Mesh, dist.ProcessGroup]:
    """Create one gloo group per distinct row, in the same order on every rank, and return this rank's per mesh."""
    by_row: dict[tuple[int, ...], dist.ProcessGroup] = {}
    for row in dict.fromkeys(row for mesh in meshes for row in mesh):
        whole = row == tuple(range(dist.get_world_size()))
        group = dist.group.WORLD if whole else dist.new_group(list(row), backend="gloo")
        assert group is not None
        by_row[row] = group
    return {mesh: by_row[row] for mesh in meshes for row in mesh if rank in row}


def _require_worker(name: str) -> WorkerRank:
    if _worker is None:
        raise RuntimeError(
            f"{NAMESPACE}::{name} runs only inside a compiled program: compile it with ModelBuilder, not eagerly"
        )
    return _worker


def _group(name: str, ranks: list[int], group_size: int) -> dist.ProcessGroup:
    return _require_worker(name).groups[as_mesh(ranks, group_size)]


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _gather(tensor: Tensor, group: dist.ProcessGroup, size: int) -> list[Tensor]:
    """The tensors of all ranks of the group, in the group's rank order."""
    sent = _as_bytes(tensor)
    received = [torch.empty_like(sent) for _ in range(size)]
    dist.all_gather(received, sent, group=group)
    return [part.view(tensor.dtype).view(tensor.shape) for part in received]


def _exchange(parts: list[Tensor], group: dist.ProcessGroup) -> list[Tensor]:
    """Send `parts[i]` (equal shapes) to the group's i-th rank; return what the i-th rank sent here."""
    stacked = torch.stack(parts)
    received = torch.empty_like(stacked)
    dist.all_to_all_single(_as_bytes_view(received), _as_bytes_view(stacked), group=group)
    return list(received.unbind(0))


def _as_bytes_view(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)  # contiguous by construction


def _combine(op: str, parts: list[Tensor]) -> Tensor:
    total = parts[0].clone()
    for part in parts[1:]:
        if op == "sum":
            total = total + part
        elif op == "mul":
            total = total * part
        elif op == "min":
            total = torch.minimum(total, part)
        elif op == "max":
            total = torch.maximum(total, part)
        elif op == "and":
            total = total & part
        else:
            total = total | part
    return total


def _all_reduce(x: Tensor, op: str, scale: float, ranks: list[int], group_size: int) -> Tensor:
    group = _group("all_reduce", ranks, group_size)
    flat = x.contiguous().reshape(-1)
    share = -(-flat.numel() // group_size)  # each rank reduces one share, then the shares are gathered
    padded = torch.nn.functional.pad(flat, (0, share * group_size - flat.numel()))
    reduced = _combine(op, _exchange(list(padded.split(share)), group)) if share else flat
    result = torch.cat(_gather(reduced, group, group_size))[: flat.numel()].view(x.shape)
    return result * scale if scale != 1.0 else result


def _all_gather(x: Tensor, dim: int, ranks: list[int], group_size: int) -> Tensor:
    return torch.cat(_gather(x, _group("all_gather", ranks, group_size), group_size), dim=dim)


def _reduce_scatter(x: Tensor, op: str, scale: float, dim: int, ranks: list[int], group_size: int) -> Tensor:
    parts = _exchange(list(x.chunk(group_size, dim=dim)), _group("reduce_scatter", ranks, group_size))
    result = _combine(op, parts)
    return result * scale if scale != 1.0 else result


def _all_to_all(x: Tensor, split_dim: int, concat_dim: int, ranks: list[int], group_size: int) -> Tensor:
    parts = _exchange(list(x.chunk(group_size, dim=split_dim)), _group("all_to_all", ranks, group_size))
    return torch.cat(parts, dim=concat_dim)


def _collective_permute(x: Tensor, pairs: list[int]) -> Tensor:
    """`pairs` is (source, target, source, target, ...); a rank that no source names as target receives zeros."""
    worker = _require_worker("collective_permute")
    sent, received = _as_bytes(x).clone(), torch.zeros_like(_as_bytes(x))
    work: list[dist.Work | None] = []
    for tag, (source, target) in enumerate(zip(pairs[0::2], pairs[1::2])):
        if source == target == worker.rank:
            received.copy_(sent)
        elif source == worker.rank:
            work.append(dist.isend(sent, target, tag=tag))
        elif target == worker.rank:
            work.append(dist.irecv(received, source, tag=tag))
    for pending in filter(None, work):
        pending.wait()
    return received.view(x.dtype).view(x.shape)


def _resized(x: Tensor, dim: int, numerator: int, denominator: int, name: str) -> list[int]:
    shape = list(x.shape)
    if shape[dim] * numerator % denominator:
        raise RuntimeError(f"{name}: dimension {dim} of {list(x.shape)} is not divisible by group size {denominator}")
    shape[dim] = shape[dim] * numerator // denominator
    return shape


def _all_to_all_shape(x: Tensor, split_dim: int, concat_dim: int, ranks: list[int], group_size: int) -> Tensor:
    shape = _resized(x, split_dim, 1, group_size, "all_to_all")
    shape[concat_dim] *= group_size
    return x.new_empty(shape)


def _register(schema: str, run, shape) -> None:
    name = schema.split("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, run, "CPU")
    torch.library.register_fake(f"{NAMESPACE}::{name}", shape, lib=_LIBRARY)


_register(
    "all_reduce(Tensor x, str op, float scale, int[] ranks, int group_size) -> Tensor",
    _all_reduce,
    lambda x, op, scale, ranks, group_size: x.new_empty(x.shape),
)
_register(
    "all_gather(Tensor x, int dim, int[] ranks, int group_size) -> Tensor",
    _all_gather,
    lambda x, dim, ranks, group_size: x.new_empty(_resized(x, dim, group_size, 1, "all_gather")),
)
_register(
    "reduce_scatter(Tensor x, str op, float scale, int dim, int[] ranks, int group_size) -> Tensor",
    _reduce_scatter,
    lambda x, op, scale, dim, ranks, group_size: x.new_empty(_resized(x, dim, 1, group_size, "reduce_scatter")),
)
_register(
    "all_to_all(Tensor x, int split_dim, int concat_dim, int[] ranks, int group_size) -> Tensor",
    _all_to_all,
    _all_to_all_shape,
)
_register(
    "collective_permute(Tensor x, int[] pairs) -> Tensor",
    _collective_permute,
    lambda x, pairs: x.new_empty(x.shape),
)

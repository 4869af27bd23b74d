"""The process-wide groups of a parallel model (NxD 0.15 `parallel_layers/parallel_state.py`).

A traced program is built once, as rank 0, so a group is an object with `_mesh` (every rank row), `size()` and
`rank()`. Whatever code reads as its own rank here is a constant 0 in the program that all ranks run.
"""

import os
from typing import Any

import torch
import torch.distributed
from torch.distributed import ProcessGroup
from torch_neuronx.utils import get_platform_target

from ..utils.utils import hardware
from .parallel_groups import (
    Mesh,
    ParallelGroups,
    ascending_groups,
    folded_groups,
    kv_groups,
    rank_arrays,
    uses_folded_rows,
)

GroupOrMesh = Any
"""A `ProcessGroup`, or with `as_list` its `Mesh`."""

_WORLD, _TENSOR, _DATA, _PIPELINE, _CONTEXT, _EXPERT, _EXPERT_DATA, _KV, _DRAFT = (
    "world",
    "tensor",
    "data",
    "pipeline",
    "context",
    "expert",
    "expert data",
    "kv",
    "draft",
)
_NAMES_IN_ERRORS = {
    _WORLD: "intra_layer_model parallel",
    _TENSOR: "intra_layer_model parallel",
    _DATA: "data parallel",
    _PIPELINE: "pipeline_model parallel",
    _CONTEXT: "context parallel",
    _EXPERT: "expert model parallel",
    _EXPERT_DATA: "expert data parallel",
    _KV: "kv_shared parallel",
    _DRAFT: "draft parallel",
}

_groups: dict[str, ProcessGroup] = {}
_meshes: dict[str, Mesh] = {}
_sizes: dict[str, int] = {}  # set by hand, or remembered from the group
_ranks: dict[str, int] = {}
_aot_mode = False


def initialize_model_parallel(
    tensor_model_parallel_size: int = 1,
    pipeline_model_parallel_size: int = 1,
    context_parallel_size: int = 1,
    expert_model_parallel_size: int = 1,
    skip_collective_init: bool = False,
    lnc_size: int = 1,
    mesh_only: bool = False,
) -> ParallelGroups | None:
    """Make the world's groups; with `mesh_only` only return their ranks.

    Sizes above the world are clamped to it. AssertionError when torch.distributed is not initialized, RuntimeError
    when the sizes do not divide the world, KeyError at tensor parallel size 4 on trn1/inf2 without LOCAL_WORLD_SIZE,
    ValueError for a platform that NxD 0.15 does not know.
    """
    assert torch.distributed.is_initialized(), "torch.distributed is not initialized"
    hardware_type = hardware(get_platform_target())
    world_size = torch.distributed.get_world_size()
    tp = min(tensor_model_parallel_size, world_size)
    pp = min(pipeline_model_parallel_size, world_size)
    cp = min(context_parallel_size, world_size)
    ep = min(expert_model_parallel_size, world_size)
    if world_size % (tp * pp * cp):
        raise RuntimeError(f"world size {world_size} is not divisible by tensor {tp} x pipeline {pp} x context {cp}")
    if world_size % (tp * pp * ep):
        raise RuntimeError(f"world size {world_size} is not divisible by tensor {tp} x pipeline {pp} x expert {ep}")

    arrays = rank_arrays(hardware_type, world_size, tp, pp, cp, ep)
    folded = uses_folded_rows(hardware_type, lnc_size, tp, world_size)
    groups = folded_groups(*arrays) if folded else ascending_groups(*arrays)
    if mesh_only:
        return groups

    _make_group(_WORLD, [list(range(world_size))])
    _make_group(_TENSOR, groups.tp_groups)
    _make_group(_DATA, groups.dp_groups)
    _make_group(_PIPELINE, groups.pp_groups)
    _make_group(_EXPERT_DATA, groups.ep_data_groups)
    _make_group(_EXPERT, groups.ep_model_groups)
    _make_group(_CONTEXT, groups.cp_groups)
    return None


def _make_group(name: str, mesh: Mesh) -> None:
    _meshes[name] = mesh
    rank = torch.distributed.get_rank()
    for row in mesh:
        if rank in row:
            _groups[name] = torch.distributed.new_group(row, pg_options={"xla_pg_options": {"mesh": mesh}})
            return
    raise RuntimeError(f"rank {rank} is in no {name} group of {mesh}")


def destroy_model_parallel() -> None:
    """Forget what `initialize_model_parallel` made; key/value and draft groups stay, as they do with NxD."""
    for name in _NAMES_IN_ERRORS:
        if name not in (_KV, _DRAFT):
            for table in (_groups, _meshes, _sizes, _ranks):
                table.pop(name, None)


def model_parallel_is_initialized() -> bool:
    """Whether there are a tensor-parallel and a data-parallel group."""
    return _TENSOR in _groups and _DATA in _groups


def set_aot_mode(mode: bool) -> None:
    """Say whether a module is being built to be traced, where weights need no values."""
    global _aot_mode
    _aot_mode = mode


def get_aot_mode() -> bool:
    return _aot_mode


def _group(name: str) -> ProcessGroup:
    assert name in _groups, f"{_NAMES_IN_ERRORS[name]} group is not initialized"
    return _groups[name]


def _mesh(name: str) -> Mesh:
    assert name in _meshes, f"{_NAMES_IN_ERRORS[name]} group is not initialized"
    return _meshes[name]


def _size(name: str) -> int:
    return _sizes[name] if name in _sizes else _group(name).size()


def _rank(name: str) -> int:
    if name in _ranks:
        return _ranks[name]
    group = _group(name)
    # the state of a program that set none up has groups but no torch.distributed
    return torch.distributed.get_rank(group=group) if torch.distributed.is_initialized() else group.rank()


def get_world_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_WORLD) if as_list else _group(_WORLD)


def get_tensor_model_parallel_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_TENSOR) if as_list else _group(_TENSOR)


def get_tensor_model_parallel_replica_groups() -> Mesh:
    return _mesh(_TENSOR)


def get_tensor_model_parallel_size() -> int:
    return _size(_TENSOR)


def set_tensor_model_parallel_size(world_size: int) -> None:
    _sizes[_TENSOR] = world_size


def get_tensor_model_parallel_rank() -> int:
    """Rank in the tensor-parallel group: 0 in every traced program."""
    return _rank(_TENSOR)


def set_tensor_model_parallel_rank(rank: int) -> None:
    _ranks[_TENSOR] = rank


def get_tensor_model_parallel_src_rank() -> int:
    """Global rank of the first member of this rank's tensor-parallel group; KeyError at size 4 as in initialize."""
    rank, size = torch.distributed.get_rank(), get_tensor_model_parallel_size()
    if size == 4:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return rank // local * local + rank % size
    return rank // size * size


def get_data_parallel_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_DATA) if as_list else _group(_DATA)


def get_data_parallel_replica_groups() -> Mesh:
    return _mesh(_DATA)


def get_data_parallel_size() -> int:
    return _group(_DATA).size()


def get_data_parallel_rank() -> int:
    return _rank(_DATA)


def get_data_parallel_src_rank() -> int:
    return torch.distributed.get_rank() % len(get_data_parallel_replica_groups())


def get_pipeline_model_parallel_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_PIPELINE) if as_list else _group(_PIPELINE)


def get_pipeline_model_parallel_replica_groups() -> Mesh:
    return _mesh(_PIPELINE)


def get_pipeline_model_parallel_size() -> int:
    return _group(_PIPELINE).size()


def get_pipeline_model_parallel_rank() -> int:
    return _rank(_PIPELINE)


def get_context_model_parallel_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_CONTEXT) if as_list else _group(_CONTEXT)


def get_context_model_parallel_replica_groups() -> Mesh:
    return _mesh(_CONTEXT)


def get_context_model_parallel_size() -> int:
    return _size(_CONTEXT)


def set_context_model_parallel_size(world_size: int) -> None:
    _sizes[_CONTEXT] = world_size


def get_context_model_parallel_rank() -> int:
    return _rank(_CONTEXT)


def get_expert_model_parallel_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_EXPERT) if as_list else _group(_EXPERT)


def get_expert_model_parallel_replica_groups() -> Mesh:
    return _mesh(_EXPERT)


def get_expert_model_parallel_size() -> int:
    return _size(_EXPERT)


def set_expert_model_parallel_size(world_size: int) -> None:
    _sizes[_EXPERT] = world_size


def get_expert_model_parallel_rank() -> int:
    return _rank(_EXPERT)


def set_expert_model_parallel_rank(rank: int) -> None:
    _ranks[_EXPERT] = rank


def get_expert_data_parallel_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_EXPERT_DATA) if as_list else _group(_EXPERT_DATA)


def get_expert_data_parallel_replica_groups() -> Mesh:
    return _mesh(_EXPERT_DATA)


def get_expert_data_parallel_size() -> int:
    return _group(_EXPERT_DATA).size()


def get_expert_data_parallel_rank() -> int:
    return _rank(_EXPERT_DATA)


def _initialize_subgroup(name: str, size: int, mesh_of: Any) -> None:
    """Make a second kind of group inside the tensor-parallel one; asking again for another size is an error."""
    if name in _groups:
        assert size == _sizes[name], f"{_NAMES_IN_ERRORS[name]} groups have size {_sizes[name]}, not {size}"
        return
    tp = get_tensor_model_parallel_size()
    assert tp % size == 0, f"{_NAMES_IN_ERRORS[name]} group size {size} does not divide the tensor-parallel size {tp}"
    _sizes[name] = size
    _make_group(name, mesh_of(torch.distributed.get_world_size(), tp))


def initialize_kv_group(kv_shared_group_size: int = 1, sequential_ranks_in_group: bool = False) -> None:
    """Groups that share a key/value head. Unless sequential, their ranks depend on the hardware."""
    hardware_type = hardware(get_platform_target())
    _initialize_subgroup(
        _KV,
        kv_shared_group_size,
        lambda world, tp: kv_groups(hardware_type, world, tp, kv_shared_group_size, sequential_ranks_in_group),
    )


def get_kv_shared_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_KV) if as_list else _group(_KV)


def get_kv_shared_replica_groups() -> Mesh:
    return _mesh(_KV)


def get_kv_shared_group_size() -> int:
    assert _KV in _sizes, f"{_NAMES_IN_ERRORS[_KV]} group is not initialized"
    return _sizes[_KV]


def destroy_kv_group() -> None:
    for table in (_groups, _meshes, _sizes):
        table.pop(_KV, None)


def initialize_speculative_draft_group(group_size: int = 1) -> None:
    """Groups of `group_size` neighbouring ranks. Nothing destroys them: they outlive `destroy_model_parallel`."""
    _initialize_subgroup(
        _DRAFT,
        group_size,
        lambda world, tp: [list(range(start, start + group_size)) for start in range(0, world, group_size)],
    )


def get_speculative_draft_group(as_list: bool = False) -> GroupOrMesh:
    return _mesh(_DRAFT) if as_list else _group(_DRAFT)


def get_speculative_draft_replica_groups() -> Mesh:
    return _mesh(_DRAFT)


def create_pg_with_ranks(ranks: list[int]) -> ProcessGroup | None:
    """A group of the pipeline stages `ranks`, with one row for every pipeline."""
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    pipelines = world_size // get_pipeline_model_parallel_size()
    mesh = [[range(i, world_size, pipelines)[stage] for stage in ranks] for i in range(pipelines)]
    for pipeline, row in zip(get_pipeline_model_parallel_replica_groups(), mesh):
        if rank in pipeline:
            return torch.distributed.new_group(row, pg_options={"xla_pg_options": {"mesh": mesh}})
    return None

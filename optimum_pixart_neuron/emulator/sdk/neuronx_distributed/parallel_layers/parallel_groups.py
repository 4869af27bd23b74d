"""Which ranks form which group (NxD 0.15 `parallel_layers/parallel_state.py`); lists of ranks only, no state."""

import functools
import operator
import os
from collections import namedtuple

import numpy as np

from ..utils.utils import hardware

Mesh = list[list[int]]
ParallelGroups = namedtuple(
    "ParallelGroups", ["tp_groups", "dp_groups", "pp_groups", "ep_model_groups", "ep_data_groups", "cp_groups"]
)


def uses_folded_rows(hardware_type: hardware, lnc_size: int, tp: int, world_size: int) -> bool:
    """Whether tensor-parallel groups pair the outer and the inner rows of a trn2's torus (NxD's "LOGIC2")."""
    if hardware_type is not hardware.TRN2 or (lnc_size, tp) not in ((1, 64), (2, 32)):
        return False
    return lnc_size == 1 or world_size >= 64


def rank_arrays(hardware_type: hardware, world_size: int, tp: int, pp: int, cp: int, ep: int):
    """Ranks laid out as (pp, dp, cp, tp) and as (pp, expert dp, ep, tp): the last axis varies fastest.

    Except at tp 4 on trn1 and inf2, where the four cores of a group sit `LOCAL_WORLD_SIZE / 4` ranks apart inside
    one node. KeyError when that variable is not set, RuntimeError when it does not fit the world.
    """
    ranks = np.arange(world_size)
    dp = world_size // (tp * pp * cp)
    if tp == 4 and hardware_type is hardware.TRN1:
        if ep > 1:
            raise NotImplementedError("tensor parallel size 4 on trn1 does not go with expert parallelism")
        distance = int(os.environ["LOCAL_WORLD_SIZE"]) // tp
        if cp > 1:
            raise RuntimeError(f"tensor parallel size 4 on trn1 does not go with context parallel size {cp}")
        if distance == 0 or dp % distance:
            raise RuntimeError(
                f"LOCAL_WORLD_SIZE={os.environ['LOCAL_WORLD_SIZE']} does not fit tensor parallel size 4 in a world of "
                f"{world_size}: set it to the ranks of one instance"
            )
        ranks = ranks.reshape(-1, tp, distance).swapaxes(1, 2).reshape(-1)
    return ranks.reshape(pp, dp, cp, tp), ranks.reshape(pp, -1, ep, tp)


def _lines(array: np.ndarray, axis: int) -> Mesh:
    """The groups that run along `axis`, ordered by the remaining axes."""
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]).tolist()


def ascending_groups(ranks: np.ndarray, expert_ranks: np.ndarray) -> ParallelGroups:
    """Groups that run along the axes of `rank_arrays` (NxD's "LOGIC1")."""
    return ParallelGroups(
        tp_groups=_lines(ranks, 3),
        dp_groups=_lines(ranks, 1),
        pp_groups=_lines(ranks, 0),
        ep_model_groups=_lines(expert_ranks, 2),
        ep_data_groups=_lines(expert_ranks, 1),
        cp_groups=_lines(ranks, 2),
    )


def folded_groups(ranks: np.ndarray, expert_ranks: np.ndarray) -> ParallelGroups:
    """Each node's ranks form four rows; rows 1 and 4 make one tensor-parallel group, rows 2 and 3 the other.

    AssertionError when that does not give groups of the size asked for.
    """
    pp, dp, cp, tp = ranks.shape
    world_size = ranks.size
    node_size = int(os.environ.get("LOCAL_WORLD_SIZE", "64"))
    row = node_size // 4
    tp_groups: Mesh = []
    for start in range(0, world_size - node_size + 1, node_size):
        rows = [list(range(start + i * row, start + (i + 1) * row)) for i in range(4)]
        tp_groups += [rows[0] + rows[3], rows[1] + rows[2]]
    assert len(tp_groups) == world_size // tp, (
        f"{node_size} ranks per node give {len(tp_groups)} tensor-parallel groups, not {world_size // tp}"
    )
    alone = [[rank] for rank in range(world_size)]
    ascending = ascending_groups(ranks, expert_ranks)
    return ParallelGroups(
        tp_groups=tp_groups,
        dp_groups=_across(tp_groups, dp * cp, merged=cp) if dp > 1 else alone,
        pp_groups=_across(tp_groups, pp * dp * cp, merged=dp * cp) if pp > 1 else alone,
        ep_model_groups=ascending.ep_model_groups if expert_ranks.shape[2] > 1 else alone,
        ep_data_groups=ascending.ep_data_groups if expert_ranks.shape[1] > 1 else alone,
        cp_groups=_across(tp_groups, cp),
    )


def _across(groups: Mesh, size: int, merged: int | None = None) -> Mesh:
    """Groups over the members with one position in each of `size` neighbouring groups, joined `merged` at a time."""
    assert len(groups) % size == 0, f"{len(groups)} tensor-parallel groups do not divide by {size}"
    result: Mesh = []
    for start in range(0, len(groups), size):
        chunk = groups[start : start + size]
        if merged is not None:
            chunk = [functools.reduce(operator.iadd, chunk[i : i + merged], []) for i in range(0, size, merged)]
        result += [list(members) for members in zip(*chunk)]
    return result


def kv_groups(hardware_type: hardware, world_size: int, tp: int, size: int, sequential: bool) -> Mesh:
    """Ranks that share one key/value head: neighbours on trn2 or when asked for, else `tp / size` ranks apart."""
    if sequential or hardware_type is hardware.TRN2:
        return [list(range(start, start + size)) for start in range(0, world_size, size)]
    distance = tp // size
    return [
        list(range(start + offset, start + tp, distance))
        for start in range(0, world_size, tp)
        for offset in range(distance)
    ]

"""How many replicas of each export there are, and whether the nodes hold them all at once. Knows no Ray."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import InvalidExportOption
from ..exported import Exported
from .options import ServeOptions


def count_replicas(options: ServeOptions, exports: Sequence[Exported], nodes: Sequence[int]) -> int:
    """Replicas of each export at the start: as asked for, or as many as fit.

    Args:
        nodes: cores of each node; a replica takes those of one.

    Raises:
        InvalidExportOption: they do not fit. Ray would wait for further nodes without an end.
    """
    asked = options.replicas or (1 if options.max_replicas else None)
    count = asked or 1
    if not _fit(count, exports, nodes):
        listed = ", ".join(f"{exported.name} ({exported.cores})" for exported in exports)
        raise InvalidExportOption(
            f"there are not enough cores for {count} of each of {listed}; serve fewer exports or replicas, or"
            " add a node"
        )
    while asked is None and _fit(count + 1, exports, nodes):
        count += 1
    return count


def _fit(count: int, exports: Sequence[Exported], nodes: Sequence[int]) -> bool:
    """Whether `count` of each find cores, the largest first, each on the first node that has enough left."""
    left = list(nodes)
    for cores in sorted((exported.cores for exported in exports), reverse=True):
        for _ in range(count):
            node = next((number for number, free in enumerate(left) if free >= cores), None)
            if node is None:
                return False
            left[node] -= cores
    return True

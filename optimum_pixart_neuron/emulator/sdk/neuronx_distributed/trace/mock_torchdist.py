"""`torch.distributed` as rank 0 of a world that does not exist (NxD 0.15 `trace/mock_torchdist.py`).

Only the attribute `torch.distributed` is exchanged: a name imported from it earlier still reaches the real package.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch_xla.runtime  # noqa: F401 - its world_size is patched by name below
from torch.distributed import ProcessGroup

_REAL = sys.modules["torch.distributed"]


class MockProcessGroup:
    """A group seen from rank 0: `_mesh` holds every rank row, and collectives are recorded with all of them."""

    def __init__(self, group_ranks: list[int], mesh: list[list[int]]):
        self.group_ranks = group_ranks
        self._mesh = mesh

    @property  # type: ignore[misc]  # which isinstance() asks, as the mocks of unittest have it
    def __class__(self):
        return ProcessGroup  # isinstance(group, ProcessGroup) holds in code written for real groups

    def rank(self) -> int:
        return 0

    def size(self) -> int:
        return len(self._mesh[0])


class MockDistributed:
    """Answers for rank 0 of `world_size`; whatever is not defined here comes from the real package."""

    def __init__(self, world_size: int = 1):
        self._rank = 0
        self._world_size = world_size

    def __getattr__(self, name: str) -> Any:
        return getattr(_REAL, name)

    def is_initialized(self) -> bool:
        return True

    def init_process_group(self, backend: str, rank: int = 0, world_size: int = 1) -> None:
        self._rank = rank
        self._world_size = world_size

    def destroy_process_group(self, group=None) -> None:
        pass

    def get_rank(self, group=None) -> int:
        return self._rank

    def get_world_size(self, group=None) -> int:
        return self._world_size if group is None else group.size()

    def get_backend(self, group=None) -> str:
        return "xla"

    def new_group(self, group_ranks: list[int], pg_options: dict) -> MockProcessGroup:
        """Takes these two arguments only, as the mock of NxD does: `ranks=` or `backend=` are a TypeError."""
        return MockProcessGroup(group_ranks, pg_options["xla_pg_options"]["mesh"])


@contextmanager
def mock_distributed(world_size: int) -> Iterator[Any]:
    """Exchange `torch.distributed` for a mock of `world_size` ranks; yields the mock and the patched world size."""
    with patch("torch.distributed", MockDistributed(world_size)) as distributed:
        with patch("torch_xla.runtime.world_size", return_value=world_size) as runtime_world_size:
            yield distributed, runtime_world_size

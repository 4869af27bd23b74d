"""Emulated torch_neuronx.contexts."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def disable_nrt_load() -> Iterator[None]:
    """Within it, `torch.jit.load` takes no core for a traced module. The emulator takes one at the first call only."""
    yield

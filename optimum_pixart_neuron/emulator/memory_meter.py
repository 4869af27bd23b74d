"""The memory that values of a program take, counted on tensors without data."""

from typing import Any

from torch import Tensor


class MemoryMeter:
    """Counts each storage once, however many values look at it.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._bytes = 0
        self._users: dict[int, int] = {}

    def add(self, value: Any) -> Any:
        """Count a value: a tensor, tensors, or something without memory. Returns it.

        Raises:
            RuntimeError: all values together take more than the limit.
        """
        for tensor in _tensors(value):
            storage = tensor.untyped_storage()
            users = self._users.get(storage._cdata, 0)
            self._users[storage._cdata] = users + 1
            self._bytes += 0 if users else storage.nbytes()
        if self._bytes > self._limit:
            raise RuntimeError(f"the program needs more than the {self._limit} bytes of a core for its values")
        return value

    def remove(self, value: Any) -> None:
        """Count a value no more."""
        for tensor in _tensors(value):
            storage = tensor.untyped_storage()
            self._users[storage._cdata] -= 1
            if not self._users[storage._cdata]:
                del self._users[storage._cdata]
                self._bytes -= storage.nbytes()


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [item for item in value if isinstance(item, Tensor)] if isinstance(value, (list, tuple)) else []

"""Handles: how a TorchScript module owns something that lives in Python.

A handle is an int64 tensor of one element that a script module keeps as an attribute. When the module is collected,
the tensor's storage is freed, which frees the numpy array beneath it, whose finalizer closes what it stands for.
A copy of the tensor (a deep copy of the module, a saved archive, another process) has other storage and owns nothing.
"""

import os
import secrets
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor


@dataclass(frozen=True)
class _Owned:
    process: int
    address: int
    value: Any
    close: Callable[[], None]


_owned: dict[int, _Owned] = {}


def new_handle(value: Any, close: Callable[[], None]) -> Tensor:
    """A handle to `value`; `close` runs once, when the handle dies or the interpreter exits."""
    number = secrets.randbits(63)  # no archive that another process saved has the same by chance
    array = numpy.array([number], dtype=numpy.int64)
    handle = torch.from_numpy(array)
    _owned[number] = _Owned(os.getpid(), handle.data_ptr(), value, close)
    weakref.finalize(array, _release, number)
    return handle


def find(handle: Tensor) -> Any | None:
    """What the handle stands for; None for a copy, and in a forked child."""
    owned = _entry(handle)
    if owned is None or (owned.process, owned.address) != (os.getpid(), handle.data_ptr()):
        return None
    return owned.value


def is_forked(handle: Tensor) -> bool:
    """Whether this process was forked from the one that made the handle."""
    owned = _entry(handle)
    return owned is not None and owned.process != os.getpid()


def _entry(handle: Tensor) -> _Owned | None:
    return _owned.get(int(handle.item())) if handle.numel() == 1 else None


def _release(number: int) -> None:
    owned = _owned.pop(number)
    if owned.process == os.getpid():  # a forked child must not close what its parent still uses
        owned.close()

"""Handles: how a TorchScript module owns something that lives in Python.

A handle is an int64 tensor of one element that a script module keeps as an attribute. When the module is collected,
the tensor's storage is freed, which frees the numpy array beneath it, whose finalizer closes what it stands for.
A copy of the tensor (a deep copy of the module, a saved archive, another process) has other storage and owns nothing.
"""

import itertools
import os
import weakref
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor

_numbers = itertools.count(1)
_owned: dict[int, tuple[int, int, Any, Callable[[], None]]] = {}


def new_handle(owned: Any, close: Callable[[], None]) -> Tensor:
    """A handle to `owned`; `close` runs once, when the handle dies or the interpreter exits."""
    number = next(_numbers)
    array = numpy.array([number], dtype=numpy.int64)
    handle = torch.from_numpy(array)
    _owned[number] = (os.getpid(), handle.data_ptr(), owned, close)
    weakref.finalize(array, _release, number)
    return handle


def find(handle: Tensor) -> Any | None:
    """What the handle stands for; None for a copy, and in a forked child."""
    if handle.numel() != 1:
        return None
    entry = _owned.get(int(handle.item()))
    if entry is None or entry[:2] != (os.getpid(), handle.data_ptr()):
        return None
    return entry[2]


def _release(number: int) -> None:
    process, _, _, close = _owned.pop(number)
    if process == os.getpid():  # a forked child must not close what its parent still uses
        close()

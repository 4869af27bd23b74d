"""Reads the pickles of TorchScript archives into inert objects: nothing that they name is imported or called."""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .operations import DTYPES

_CLASSES = re.compile(r"__torch__\.optimum_pixart_neuron\.emulator\.[a-z_]+(\.___torch_mangle_[0-9]+)?")

# What `torch.jit.save` writes (torch 2.8 to 2.13), protocol 2.
_INSTRUCTIONS = {
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BINUNICODE", "BINFLOAT", "LONG1"),
    *("BININT", "BININT1", "BININT2", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND"),
    *("APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "NEWOBJ", "BUILD", "REDUCE", "BINPERSID"),
}

_STORAGES = {
    **{"DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool"},
    **{"Float8_e4m3fnStorage": "float8_e4m3fn", "Float8_e5m2Storage": "float8_e5m2"},
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor: `count` values of `dtype` from value `offset` of the record `data/<key>` on."""

    key: str
    dtype: str
    offset: int
    count: int


@dataclass(eq=False)
class Instance:
    """An object of one of the emulator's scripted classes, with its attributes."""

    name: str
    state: dict[str, Any] = field(default_factory=dict)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getitem__(self, name: str) -> Any:
        return self.state[name]


def read_pickle(content: bytes, sizes: Mapping[str, int], *, plain: bool = False) -> Any:
    """What a pickle holds.

    Args:
        content: the pickle.
        sizes: bytes of each record of the archive, which its tensors must fit into.
        plain: whether it is of numbers, texts and containers only, without objects and tensors.

    Raises:
        RuntimeError, ValueError, TypeError, KeyError: it holds something else, or is damaged.
    """
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in _INSTRUCTIONS:
            raise RuntimeError(f"a pickle has the instruction {opcode.name}")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and (argument or 0) > number:
            raise RuntimeError("a pickle skips numbers")  # each takes memory, up to the largest
    try:
        return _Unpickler(io.BytesIO(content), sizes, plain).load()
    except (pickle.UnpicklingError, EOFError, IndexError, AttributeError, OverflowError) as error:
        raise RuntimeError(f"a pickle is damaged: {error}") from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, sizes: Mapping[str, int], plain: bool):
        super().__init__(file)
        self._sizes = sizes
        self._plain = plain

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch.jit._pickle" and name in ("build_intlist", "build_tensorlist"):
            return list
        if not self._plain:
            if _CLASSES.fullmatch(module) and name.isidentifier():
                return type(name, (_New,), {"scripted": name})
            if module == "torch" and name in _STORAGES:
                return _STORAGES[name]
            known = {
                ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
                ("torch.jit._pickle", "restore_type_tag"): lambda value, _: value,
                ("collections", "OrderedDict"): dict,
            }
            if (module, name) in known:
                return known[module, name]
        raise RuntimeError(f"a pickle names {f'{module}.{name}'[:80]}")

    def persistent_load(self, identifier: Any) -> tuple[str, str, int]:
        """Record, dtype and number of values of a storage."""
        kind, dtype, key, device, count = identifier
        if kind != "storage" or device != "cpu" or dtype not in DTYPES or type(count) is not int or count < 0:
            raise RuntimeError("a storage is of no known kind")
        if self._sizes[f"data/{key}"] != count * DTYPES[dtype].itemsize:
            raise RuntimeError(f"data/{key} has another size than its storage")
        return key, dtype, count

    def _tensor(
        self, storage: tuple[str, str, int], offset: int, size: Any, stride: Any, gradient: bool, hooks: Any
    ) -> StoredTensor:
        key, dtype, available = storage
        numbers = (offset, *size, *stride)
        if any(type(each) is not int or each < 0 for each in numbers) or len(size) != len(stride) or gradient or hooks:
            raise RuntimeError("a tensor is of no known form")
        count = math.prod(size)
        last = sum((length - 1) * step for length, step in zip(size, stride))
        if count and offset + last >= available:
            raise RuntimeError(f"a tensor is larger than data/{key}")
        return StoredTensor(key, dtype, offset, count)


class _New:
    """Stands for a scripted class: making an object of it makes an `Instance`."""

    scripted = ""

    def __new__(cls, *_: Any) -> Any:
        return Instance(cls.scripted)

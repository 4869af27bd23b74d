"""What a file with a compiled program may hold, checked before TorchScript reads it.

`torch.jit.load` compiles the code in an archive and runs the `__setstate__` of its classes. So an archive is read
without TorchScript first: its pickle may make nothing but tensors and the emulator's own classes, its programs are
decoded (`header.py`), the emulator's module is made of them once more, and the archive's code must be that module's.

The scripts in `spmd.py`, `single_core.py` and `scripting.py` are therefore part of the file format: what was saved
with others is refused.
"""

import io
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from .archive_pickle import Instance, StoredTensor, read_pickle
from .program import Program
from .single_core import build_module
from .spmd import build_executor

_MOST_RECORDS = 20_000
_LARGEST_TEXT = 16 << 20  # bytes of a file of code, or of a pickle
_LARGEST_PROGRAM = 1 << 30  # bytes

_RECORDS = re.compile(
    r"data\.pkl|constants\.pkl|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment"
    r"|data/[0-9]+|code/__torch__/[A-Za-z0-9_/]+\.py(\.debug_pkl)?"
)
_MANGLED = re.compile(r"\.___torch_mangle_[0-9]+")
_INTERMEDIATE = re.compile(r"\b_[0-9]+\b")


def check_archive(path: Path) -> None:
    """Check that the emulator wrote a file, as far as loading and running it goes.

    Raises:
        RuntimeError: one line that says what is wrong with it.
    """
    try:
        archive = _Archive(path)
        root = archive.object()
        expected = _made_again(root, archive)
    except Exception as error:  # of many kinds, as zipfile and PyTorch find something wrong with it
        cause = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise RuntimeError(f"it is no program that this emulator wrote: {cause}") from None
    if archive.code() != expected:
        raise RuntimeError("it is no program that this emulator wrote: it holds code of its own")


class _Archive:
    """The records of a TorchScript archive, as TorchScript's own reader finds them."""

    def __init__(self, path: Path):
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
            if len(entries) > _MOST_RECORDS:
                raise RuntimeError(f"it has {len(entries)} records")
            self.sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in entries}
        self._reader = torch._C.PyTorchFileReader(str(path))
        if len(self.sizes) < len(entries) or set(self.sizes) != set(self._reader.get_all_records()):
            raise RuntimeError("its directory is damaged")
        strange = [name for name in self.sizes if not _RECORDS.fullmatch(name)]
        if strange:
            raise RuntimeError(f"it holds {strange[0][:80]!r}")
        for name in self.sizes:
            if not name.startswith("data/"):
                self.read(name, _LARGEST_TEXT)

    def read(self, name: str, limit: int) -> bytes:
        if self.sizes[name] > limit:
            raise RuntimeError(f"{name} has {self.sizes[name]} bytes")
        return self._reader.get_record(name)

    def object(self) -> Any:
        """What is stored, of inert classes."""
        if read_pickle(self.read("constants.pkl", _LARGEST_TEXT), self.sizes) != ():
            raise RuntimeError("it has constants")
        for name in self.sizes:
            if name.endswith(".debug_pkl"):
                read_pickle(self.read(name, _LARGEST_TEXT), {}, plain=True)
        return read_pickle(self.read("data.pkl", _LARGEST_TEXT), self.sizes)

    def program(self, stored: Any) -> Program:
        """The program in a stored tensor."""
        if not isinstance(stored, StoredTensor) or stored.dtype != "uint8" or stored.offset:
            raise RuntimeError("it has no program")
        return Program.from_bytes(self.read(f"data/{stored.key}", _LARGEST_PROGRAM)[: stored.count])

    def code(self) -> Counter[str]:
        names = [name for name in self.sizes if name.endswith(".py")]
        return _classes(self.read(name, _LARGEST_TEXT) for name in names)


def _made_again(root: Any, archive: _Archive) -> Counter[str]:
    """The code of the emulator's own module around the programs of an archive."""
    if not isinstance(root, Instance):
        raise RuntimeError("it holds no module")
    if root.name == "NxDModelExecutor":
        module = _executor(root["nxd_model"], archive)
    elif root.name == "NeuronModule":
        program = archive.program(root["model"]["program"])
        state = dict.fromkeys(program.weight_names, torch.empty(0))
        module = build_module(program, state, inline_weights="weights" not in root.state)
    else:
        raise RuntimeError(f"it is a {root.name}")
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    reader = torch._C.PyTorchFileReader(io.BytesIO(buffer.getvalue()))
    return _classes(reader.get_record(name) for name in reader.get_all_records() if name.endswith(".py"))


def _executor(model: Instance, archive: _Archive) -> torch.jit.ScriptModule:
    decoded = [archive.program(stored) for stored in model["programs"]]
    starts = sorted(model["offsets"].items(), key=lambda item: item[1])
    ends = [start for _, start in starts[1:]] + [len(decoded)]
    programs = {name: decoded[start:end] for (name, start), end in zip(starts, ends)}
    executor = build_executor(programs, world_size=model["world_size"], start_rank_id=model["start_rank_id"])
    made = executor.nxd_model
    if (made.offsets, made.input_shape_map) != (model["offsets"], model["input_shape_map"]):
        raise RuntimeError("its programs are not called by their shapes")
    return executor


def _classes(files: Any) -> Counter[str]:
    """The classes in files of code, without what depends on the other classes that TorchScript has or prints.

    That are the numbers added to names that are taken, and those of intermediate values, which are counted per file.
    """
    found: Counter[str] = Counter()
    for content in files:
        text = _MANGLED.sub("", content.decode())
        before, *classes = re.split(r"^class ", text, flags=re.MULTILINE)
        found.update([before.strip()] if before.strip() else [])
        found.update(_renumbered(each.rstrip()) for each in classes)
    return found


def _renumbered(text: str) -> str:
    """One name for another, so that what names the same value still does."""
    names: dict[str, str] = {}
    return _INTERMEDIATE.sub(lambda found: names.setdefault(found[0], f"_{len(names)}"), text)

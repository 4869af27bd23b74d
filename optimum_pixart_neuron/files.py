"""Files: reading what others wrote, within bounds; fingerprints; and writing that lasts.

What is read here may come from anybody's repository, so no number, name or size in it is believed: only regular files
are opened (a pipe would wait for ever), no more bytes are read than a limit allows, JSON is nested and typed as the
caller says, and each refusal is one line.

Fingerprints are a full digest, and a sample that costs next to nothing at load. Shards of several ranks have the same
size and the same header, and in context mode differ in one weight of a few bytes. So the sample of a safetensors file
holds every small tensor whole, besides blocks spread over the file.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from io import BytesIO
from math import prod
from pathlib import Path
from threading import Event, Lock
from typing import Annotated, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from tqdm import tqdm

from .errors import PixArtNeuronError, printable

CONFIGURATION_BYTES = 1 << 20
"""Read of a JSON configuration at most; the largest that PixArt-Sigma has, the tokenizer's, takes 21 kB."""
RECORDS_BYTES = 4 << 20
"""Read of a manifest, or of what an export notes for its next run, at most: about 8000 files; none has as many."""
HEADER_BYTES = 4 << 20
"""Read of a safetensors header at most, about 40 000 tensors; T5-XXL's takes 25 kB."""

UNFINISHED = ".unfinished"
"""Behind the name of a file while `write_whole` writes it."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of a write that failed for want of room."""
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_BLOCK = 4096  # bytes
_BLOCKS = 16
# Bits of an element, as safetensors 0.6 calls the types (`tensor.rs`, `Dtype::bitsize`).
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8}
_BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
_BITS |= {"I64": 64, "U64": 64, "F64": 64, "C64": 64}

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Model = TypeVar("_Model", bound=BaseModel)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading in bytes, without ever waiting for another process.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    _refuse_irregular(os.stat(path), path)  # opening some devices is an act
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _refuse_irregular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def _refuse_irregular(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file.

    Args:
        most: bytes that are read.

    Raises:
        OSError: see `open_regular`.
        ValueError: it holds more.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most} bytes")
    return content


def parse_json(content: bytes) -> Any:
    """Parse JSON in UTF-8.

    Infinity is taken, because diffusers writes it into schedulers' configurations; NaN is not.

    Raises:
        ValueError: it is no JSON, is nested beyond 200 levels, holds NaN, or names a key of an object twice.
    """
    try:
        from_json(content)  # refuses deep nesting and broken text without recursion; the module `json` recurses
        return json.loads(content, object_pairs_hook=_distinct, parse_constant=_no_nan)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it names {printable(name)} twice")
        found[name] = value
    return found


def _no_nan(constant: str) -> float:
    if constant == "NaN":
        raise ValueError("it holds NaN, which is no number")
    return float(constant)


def read_json(
    path: Path, raises: type[PixArtNeuronError], *, advice: str = "", most: int = CONFIGURATION_BYTES
) -> dict[str, Any]:
    """Read a JSON object, see `parse_json`.

    Args:
        raises: what to raise.
        advice: what the user can do; the end of each message.
        most: bytes that are read.

    Raises:
        PixArtNeuronError: of the type `raises`: it is missing, cannot be read, or is no such object.
    """
    end = f"; {advice}" if advice else ""
    try:
        content = parse_json(read_bytes(path, most))
    except FileNotFoundError:
        raise raises(f"{path} is missing{end}") from None
    except OSError as error:
        raise raises(f"{path} cannot be read: {error.strerror or error}{end}") from None
    except ValueError as error:
        raise raises(f"{path} is damaged: {error}{end}") from None
    if not isinstance(content, dict):
        raise raises(f"{path} is damaged: it is not a JSON object{end}")
    return content


def read_typed(path: Path, model: type[_Model], raises: type[PixArtNeuronError], *, advice: str = "") -> _Model:
    """Read a JSON object that a pydantic model describes.

    Raises:
        PixArtNeuronError: of the type `raises`: as by `read_json` and `typed`.
    """
    return typed(read_json(path, raises, advice=advice), model, path, raises, advice=advice)


def typed(
    content: Any, model: type[_Model], place: object, raises: type[PixArtNeuronError], *, advice: str = ""
) -> _Model:
    """What a pydantic model makes of the content of a place.

    Raises:
        PixArtNeuronError: of the type `raises`: a key is missing or has a wrong value.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        end = f"; {advice}" if advice else ""
        raise raises(f"{first_problem(place, error)}{end}") from None


def first_problem(place: object, error: ValidationError) -> str:
    """The first thing that is wrong with the content of a place, by its key."""
    first = error.errors(include_url=False)[0]
    where = ".".join(printable(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{place} has no {where}"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{place}: {where}: {reason}" if where else f"{place}: {reason}"


class TensorEntry(BaseModel):
    """One tensor of a safetensors file, by its header.

    Attributes:
        dtype: as safetensors calls it, such as "BF16".
        shape: elements.
        data_offsets: begin and end in bytes behind the header.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dtype: str
    shape: list[Annotated[int, Field(ge=0, lt=1 << 63)]] = Field(max_length=8)
    data_offsets: list[int] = Field(min_length=2, max_length=2)


def read_end(path: Path, most: int) -> str:
    """The last `most` bytes of a text, as a log's; bytes of another encoding are replaced.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most))
        return file.read(most).decode(errors="replace")


def safetensors_header(file: BinaryIO) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file by name, in the order in which they lie; no weight is read.

    They lie side by side and fill the file, so what passes here can be mapped without a second look.

    Args:
        file: open at its start.

    Raises:
        ValueError: it is no safetensors file, is cut, or has a header of more than `HEADER_BYTES`.
    """
    return safetensors_contents(file)[0]


def safetensors_contents(file: BinaryIO) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """As `safetensors_header`, with what the writer said of the file: text by name.

    Raises:
        ValueError: as there; or that is not text.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= size - 8:
        raise ValueError(f"its header of {length} bytes does not fit into its {size} bytes")
    if length > HEADER_BYTES:
        raise ValueError(f"its header has {length} bytes, at most {HEADER_BYTES} are read")
    header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    said = header.pop("__metadata__", None) or {}
    if not isinstance(said, dict) or not all(isinstance(text, str) for text in said.values()):
        raise ValueError("its header: __metadata__ is not text by name")
    try:
        entries = {name: TensorEntry.model_validate(entry) for name, entry in header.items()}
    except ValidationError as error:
        raise ValueError(first_problem("its header", error)) from None
    ordered = sorted(entries.items(), key=lambda item: item[1].data_offsets)
    position = 0
    for name, entry in ordered:
        if entry.dtype not in _BITS:
            raise ValueError(f"tensor {printable(name)} has the unknown type {printable(entry.dtype)}")
        bits = prod(entry.shape) * _BITS[entry.dtype]
        if bits % 8 or entry.data_offsets != [position, position + bits // 8]:
            raise ValueError(f"tensor {printable(name)} does not lie where its shape and its neighbours say")
        position += bits // 8
    if 8 + length + position != size:
        raise ValueError(f"it has {size} bytes, its header describes {8 + length + position}")
    return dict(ordered), said


class FileRecord(BaseModel):
    """What a manifest knows of one file.

    Attributes:
        size: in bytes.
        sha256: of the whole content.
        sample: SHA-256 of the parts that `sample_digest` reads.
    """

    model_config = ConfigDict(frozen=True)

    size: Annotated[int, Field(ge=0, lt=1 << 62)]
    sha256: _Digest
    sample: _Digest

    @classmethod
    def of(cls, path: Path, advance: Callable[[int], object] | None = None) -> "FileRecord":
        """Read the whole file; `advance` is told of the bytes as they are read."""
        return cls(size=path.stat().st_size, sha256=full_digest(path, advance), sample=sample_digest(path))

    @classmethod
    def of_content(cls, content: bytes) -> "FileRecord":
        """Of a small file that is in memory; none with safetensors."""
        sample = _sample(BytesIO(content), len(content), ())
        return cls(size=len(content), sha256=hashlib.sha256(content).hexdigest(), sample=sample)

    def resembles(self, path: Path) -> bool:
        """Whether the file is there with this size and sample; its whole content is not read."""
        return path.is_file() and path.stat().st_size == self.size and sample_digest(path) == self.sample


def records_of(folder: Path, names: Iterable[str], *, title: str, stop: Event | None = None) -> dict[str, FileRecord]:
    """Read files of a folder whole, side by side; by their paths in it, on a terminal with a progress bar of bytes.

    An error or interrupt does not wait for their ends, nor does CancelledError, which is raised once `stop` is set.
    """
    stop = stop or Event()
    paths = {name: folder / name for name in names}
    total = sum(path.stat().st_size for path in paths.values())
    turn = Lock()  # the bar's own is shared with forks
    with (
        tqdm(desc=title, total=total, unit="B", unit_scale=True, leave=False, disable=None) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):

        def advance(count: int) -> None:
            if stop.is_set():
                raise CancelledError
            with turn:
                progress.update(count)

        try:
            return dict(zip(paths, pool.map(lambda path: FileRecord.of(path, advance), paths.values())))
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def full_digest(path: Path, advance: Callable[[int], object] | None = None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if advance:
                advance(len(block))
    return digest.hexdigest()


def sample_digest(path: Path) -> str:
    """SHA-256 of 16 blocks spread evenly over a file, its first and last bytes among them.

    Of a safetensors file also the header and every tensor of at most one block (4 KiB).
    """
    with open_regular(path) as file:
        small = _small_parts(file) if path.suffix == ".safetensors" else ()
        return _sample(file, os.fstat(file.fileno()).st_size, small)


def _sample(file: BinaryIO, size: int, small: Iterable[tuple[int, int]]) -> str:
    digest = hashlib.sha256()
    for start, length in small:
        file.seek(start)
        digest.update(file.read(length))
    for number in range(_BLOCKS):
        file.seek(max(size - _BLOCK, 0) * number // (_BLOCKS - 1))
        digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _small_parts(file: BinaryIO) -> list[tuple[int, int]]:
    """(start, length) of the header and of every small tensor; nothing where the header cannot be read."""
    try:
        offsets = [entry.data_offsets for entry in safetensors_header(file).values()]
    except ValueError:
        return []
    data = file.tell()
    small = sorted((begin, end - begin) for begin, end in offsets if end - begin <= _BLOCK)
    return [(0, data), *((data + begin, count) for begin, count in small)]


def write_whole(path: Path, content: bytes | Path) -> None:
    """Write a file, or copy one, so that it is there whole or, after a kill or a power cut, as it was before."""
    unfinished = path.with_name(f"{path.name}{UNFINISHED}")
    try:
        if isinstance(content, Path):
            shutil.copyfile(content, unfinished)
        else:
            unfinished.write_bytes(content)
        flush(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    flush(path.parent, below=False)


def flush(path: Path, *, below: bool = True) -> None:
    """Have the system write a file, or a folder with everything below it, to the disk itself."""
    if below and path.is_dir():
        for child in path.iterdir():
            flush(child)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_PIECE = 128 << 10  # bytes; the kernel drops what exceeds the disk's read-ahead, by default as much


def read_ahead(descriptor: int) -> None:
    """Read a whole file into the kernel's cache; does nothing where the system has no such call."""
    if hasattr(os, "posix_fadvise"):
        for start in range(0, os.fstat(descriptor).st_size, _PIECE):
            os.posix_fadvise(descriptor, start, _PIECE, os.POSIX_FADV_WILLNEED)

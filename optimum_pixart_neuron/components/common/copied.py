"""Parts of a checkpoint that no compiler touches: read once, from known files alone, and loaded by a known class.

diffusers and optimum-neuron import whatever library and class a model_index.json names, and transformers runs the code
that a `tokenizer_config.json` or a `config.json` beside it points to. So nothing of theirs is asked to load a folder
that somebody else filled. The files named here are read into memory within limits and checked; what is loaded, written
into an export and recorded in its manifest is that, whatever the folder holds then.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any, ClassVar

from pydantic import ValidationError

from ...errors import OutputFull, PixArtNeuronError, printable
from ...files import NO_ROOM, first_problem, parse_json, read_bytes


@dataclass(frozen=True, kw_only=True)
class CopiedPart(ABC):
    """One such part.

    Class attributes:
        FILES: names of the files that it may have, with the bytes that are read of each at most.
        NEEDED: those that it must have.
        INSTEAD: what may take the place of one of them.

    Attributes:
        folder: that it was read from.
        source: content of each file that was read, by name.
        contents: content of each file as an export gets it.
        library, class_name: what model_index.json of the export says of it.
        notes: what the user should know, a line each.
        raises: the error of whoever reads it.
    """

    FILES: ClassVar[Mapping[str, int]]
    NEEDED: ClassVar[tuple[str, ...]]
    INSTEAD: ClassVar[Mapping[str, str]] = {}

    folder: Path
    source: Mapping[str, bytes]
    contents: Mapping[str, bytes]
    library: str
    class_name: str
    notes: tuple[str, ...] = ()
    raises: type[PixArtNeuronError]

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, entry: tuple[str, str] | None, raises: type[PixArtNeuronError]) -> CopiedPart:
        """Read it; nothing is imported or built yet.

        Args:
            entry: library and class in model_index.json; None where that does not name it.

        Raises:
            PixArtNeuronError: of the type `raises`: a file is missing, or is not what it should be; or the library or
                class is not one of those that this package loads.
        """

    @abstractmethod
    def load(self) -> Any:
        """Make the object; an error of the type `raises` where its own class refuses it."""

    @classmethod
    def read_files(cls, folder: Path, raises: type[PixArtNeuronError]) -> dict[str, bytes]:
        """Those of `FILES` that are there.

        Raises:
            PixArtNeuronError: of the type `raises`: one of `NEEDED` is missing; one cannot be read, or is a link
                out of the folder.
        """
        found = {}
        for name, most in cls.FILES.items():
            try:
                check_inside(folder / name, folder)
                found[name] = read_bytes(folder / name, most)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise raises(f"{folder / name} cannot be read: {error.strerror or error}") from None
            except ValueError as error:
                raise raises(f"{folder / name} is damaged: {error}") from None
        for name in cls.missing(found):
            instead = cls.INSTEAD.get(name)
            raise raises(f"{folder} holds neither {name} nor {instead}" if instead else f"{folder / name} is missing")
        return found

    @classmethod
    def missing(cls, names: Collection[str]) -> list[str]:
        """Those of `NEEDED` that are not among these names, nor what may take their place."""
        return [name for name in cls.NEEDED if name not in names and cls.INSTEAD.get(name) not in names]

    def write(self, folder: Path) -> None:
        """Write the files of an export."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)

    def _refuse(self, reason: object) -> PixArtNeuronError:
        return self.raises(f"{self.folder}: {reason}")

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """Turn whatever a library raises at strange values into one line; OutputFull where no file can be written.

        tokenizers' Rust code panics, which is no Exception in Python.
        """
        try:
            yield
        except (KeyboardInterrupt, SystemExit, GeneratorExit, PixArtNeuronError):
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise OutputFull(
                    f"{gettempdir()} has no room to load a {self.class_name}: {error.strerror}; free it, or choose"
                    " another folder with TMPDIR"
                ) from None
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            raise self._refuse(f"{self.class_name} cannot be loaded: {printable(reason, 300)}") from None


def parsed(path: Path, content: bytes, check: Callable[[Any], object], raises: type[PixArtNeuronError]) -> Any:
    """What a JSON file says, as it stands there.

    Args:
        check: raises ValueError, or pydantic's ValidationError, for what it may not say.

    Raises:
        PixArtNeuronError: of the type `raises`: it is no JSON, or see `check`.
    """
    try:
        values = parse_json(content)
        check(values)
    except ValidationError as error:
        raise raises(first_problem(path, error)) from None
    except ValueError as error:
        raise raises(f"{path} is damaged: {error}") from None
    return values


def check_inside(path: Path, folder: Path) -> None:
    """Refuse a link that leads out of a folder: what it would read may be anything that the user can read.

    The download cache links its snapshots to the `blobs` of the same repository (huggingface_hub 0.36).

    Raises:
        ValueError: says where it leads.
    """
    found, root = (Path(os.path.realpath(place)) for place in (path, folder))  # which takes loops
    allowed = [root]
    if "snapshots" in root.parts:
        home = next(parent for parent in (root, *root.parents) if parent.name == "snapshots").parent
        allowed.append(home / "blobs")
    if not any(found.is_relative_to(place) for place in allowed):
        raise ValueError(f"it is a link to {found}, out of its folder")

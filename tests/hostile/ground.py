"""A copy of a base that one case changes."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

from .bases import CHECKPOINT, EXPORT, LORA, write_manifest

INDEX, MANIFEST = "model_index.json", "neuron_manifest.json"


@dataclass(frozen=True)
class Ground:
    """Where a case is made.

    Attributes:
        target: what the folder is said to be, one of `bases.TARGETS`.
        folder: the copy.
        victim: a file of the user's that code of the case would overwrite.
        numbers: all that is random about it.
    """

    target: str
    folder: Path
    victim: Path
    numbers: random.Random

    def write(self, name: str, content: bytes | str) -> None:
        """Make a file anew: the former one may be the base's."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def document(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    def rewrite(self, name: str, **changes: Any) -> None:
        self.write(name, json.dumps({**self.document(name), **changes}))

    def remove(self, name: str) -> None:
        path = self.folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def seal(self, *listed: str) -> None:
        """Have the manifest tell the right digest of everything that can be read, and of files that no export has."""
        if self.target == EXPORT:
            self.remove(MANIFEST)
            write_manifest(self.folder, listed)

    @cached_property
    def code(self) -> str:
        """Python that a case hopes is run."""
        return f"open({str(self.victim)!r}, 'w').write('ran')\nclass Evil:\n    def __init__(self, *a, **k): pass\n"

    @property
    def documents(self) -> list[str]:
        """JSON files by path, but the manifest."""
        return [name for name in self._files("*.json") if name != MANIFEST]

    @property
    def components(self) -> list[str]:
        """Folders with weights or programs."""
        names = ("text_encoder", "transformer", "vae" if self.target == CHECKPOINT else "vae_decoder")
        return [name for name in names if (self.folder / name).is_dir()]

    @property
    def weights(self) -> list[str]:
        return self._files("*.safetensors")

    def _files(self, pattern: str) -> list[str]:
        """Those that the case is about."""
        inside = self.folder / "lora" if self.target == LORA else self.folder
        return sorted(path.relative_to(self.folder).as_posix() for path in inside.rglob(pattern))

    def choose(self, *options: Any) -> Any:
        return self.numbers.choice(options)


def changing(files: Callable[[Ground], list[str]]) -> Callable[[Callable], Callable[[Ground], None]]:
    """Make a case of a change: one of these files becomes what `change(ground, content)` returns."""

    def case_of(change: Callable[[Ground, bytes], bytes]) -> Callable[[Ground], None]:
        @wraps(change)
        def case(ground: Ground) -> None:
            name = ground.choose(*files(ground))
            ground.write(name, change(ground, (ground.folder / name).read_bytes()))

        return case

    return case_of


def state(folder: Path) -> dict[str, tuple]:
    """What is in a folder, so that a change shows; nothing is opened."""
    found = {}
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            seen = os.lstat(os.path.join(above, name))
            is_file = not os.path.isdir(os.path.join(above, name))
            found[os.path.join(above, name)] = (seen.st_mode, seen.st_size, seen.st_mtime_ns if is_file else 0)
    return found

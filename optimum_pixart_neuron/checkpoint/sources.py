"""A folder or repository, or a component's folder in one: where it is, and what is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..components.registry import PARTS
from ..errors import CheckpointError
from ..files import read_json
from .address import Address
from .index import ModelIndex
from .layout import INDEX
from .weights import header_of

_CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an address leads to: a checkpoint, whole or in part, or one component of it.

    Attributes:
        address: what the user called it, and the folder inside that.
        folder: on this machine; absolute, since a compiler changes the current folder while files are read beside it.
        files: every file in it by path, with those that are still on the Hub; of a folder, down to the components'.
        revision: commit hash on the Hub; None for a folder.
        variant: of a component's weight files, such as "fp16"; None for the plain ones.
        file: the one file that is all there is, absolute, too, see `Part.single_file`; None for a folder.
        cached_only: whether the Hub was not asked, so that `files` is what the download cache holds.
    """

    address: Address
    folder: Path
    files: frozenset[str] = frozenset()
    revision: str | None = None
    variant: str | None = None
    file: Path | None = None
    cached_only: bool = False

    @property
    def model(self) -> str:
        """What the user called it: a Hub id, with revision and path if given, or a folder."""
        return self.address.name

    def index(self) -> ModelIndex | None:
        """Its model_index.json; None where it has none, a CheckpointError where it cannot be read."""
        return ModelIndex.read(self.folder / INDEX, CheckpointError) if INDEX in self.files else None

    def holds(self, component: str) -> bool:
        """Whether any file of the component is there."""
        return any(name.startswith(f"{component}/") for name in self.files)

    def is_component(self, component: str) -> bool:
        """Whether this is the component itself: its config.json, or the file's names, say so."""
        if self.file is not None:
            form = PARTS[component].single_file
            return form is not None and form.is_one(header_of(self.file))
        recognize, config = PARTS[component].recognize, self.folder / _CONFIG
        if recognize is None or _CONFIG not in self.files or not config.exists():
            return False
        return recognize(read_json(config, CheckpointError))

    def component(self, name: str) -> Source:
        """Where a component is, or would be."""
        below = "" if not self.holds(name) and self.is_component(name) else name
        prefix = f"{below}/" if below else ""
        files = {file.removeprefix(prefix) for file in self.files if file.startswith(prefix)}
        return replace(
            self,
            address=self.address.below(below),
            folder=self.folder / below,
            files=frozenset(file for file in files if "/" not in file),
        )

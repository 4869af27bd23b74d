"""What a user may call a model. Imports nothing heavy."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from ..errors import CheckpointError

# The paths of huggingface_hub's file system without their `hf://`: id[@revision][/path]. A slash inside a revision is
# written %2F, except in those of pull requests and conversions (huggingface_hub 0.36, `HfFileSystem.resolve_path`).
_HUB_PATH = re.compile(
    r"(?P<id>[^/@]+/[^/@]+|[^/@]+)(@(?P<revision>refs/(pr|convert)/[^/]+|[^/]+))?(/(?P<path>[^/].*?)?/*)?"
)


@dataclass(frozen=True, kw_only=True)
class Address:
    """A folder of this machine, or a place on the Hub.

    Attributes:
        flag: that named it, such as "--transformer".
        name: what the user called it.
        folder: on this machine; None for a place on the Hub.
        revision: branch, tag or commit on the Hub; None for its default branch.
        path: below the folder or inside the repository; empty for all of it.
        repository: id on the Hub; None for a folder.
    """

    flag: str
    name: str
    folder: Path | None
    revision: str | None = None
    path: str = ""
    repository: str | None = None

    @classmethod
    def parse(cls, flag: str, text: str) -> Address:
        """What a flag names by a folder or by `id[@revision][/path]`; anything else is a CheckpointError."""
        folder = local_folder(text)
        if folder is not None:
            return cls(flag=flag, name=text, folder=folder)
        found = _HUB_PATH.fullmatch(text)
        if not found:
            raise CheckpointError(f"{flag} {text}: no such folder, and not of the form id[@revision][/path]")
        revision = found["revision"] and unquote(found["revision"])
        path = found["path"] or ""
        return cls(flag=flag, name=text, folder=None, revision=revision, path=path, repository=found["id"])

    @property
    def on_the_hub(self) -> str:
        """The id of the repository, of what is no folder."""
        assert self.repository is not None
        return self.repository

    @property
    def prefix(self) -> str:
        """What the path of a file in it begins with, inside the repository."""
        return f"{self.path}/" if self.path else ""

    def below(self, path: str) -> Address:
        """A folder inside it."""
        return replace(self, path="/".join(part for part in (self.path, path.strip("/")) if part))


def local_folder(text: str) -> Path | None:
    """The folder that `text` names; None for an id on the Hub. An existing folder goes before an id."""
    path = Path(text)
    with suppress(RuntimeError):  # ~somebody who has no home here
        path = path.expanduser()
    return path if path.exists() or text.startswith((".", "/", "~")) else None

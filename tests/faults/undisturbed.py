"""What happens without faults, each made once and when it is first asked for; the measure of every fault."""

import hashlib
import re
import shutil
import zipfile
from functools import cached_property
from pathlib import Path

from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.files import full_digest

from ..hub.exports import content, make_export
from ..hub.fake_hub import FakeHub, Request
from . import actions, inflict
from .warm import Outcome, Warm

BOUND_S = 300.0
"""For any run. The longest takes 20 s of processor time, on a machine that may be busy."""
EDITED_CARD = b"---\nlicense: mit\n---\nWords of the user.\n"
PICTURE = b"\0a picture of the user"

_MANGLED = re.compile(rb"___torch_mangle_\d+")
_DERIVED = (".debug_pkl", "serialization_id")
"""Entries of a TorchScript archive that follow from the others, class numbers and all."""


class Undisturbed:
    """One good export, its way to the Hub and back, and the requests and operations on these ways."""

    def __init__(self, warm: Warm, folder: Path) -> None:
        self.warm = warm
        self._folder = folder

    def run(self, *arguments) -> Outcome:
        """A run that has to succeed."""
        outcome = self.warm.run(*arguments, bound=BOUND_S)
        assert outcome.returned and not outcome.left, outcome
        return outcome

    @cached_property
    def checkpoint(self) -> Path:
        self.run(actions.make_checkpoint, self._folder / "checkpoint")
        return self._folder / "checkpoint"

    @cached_property
    def _export(self) -> tuple[Path, Outcome]:
        output = self._folder / "exports" / "out"
        output.parent.mkdir()
        options = {"model": str(self.checkpoint), "output": output}
        return output, self.run(actions.export_noting_changes, options, output.parent)

    @property
    def export(self) -> Path:
        """The good export's folder."""
        return self._export[0]

    @property
    def changes(self) -> list[str]:
        """Operations of an export that change files, in order, with their paths."""
        return self._export[1].result

    @property
    def export_cpu_seconds(self) -> float:
        return self._export[1].cpu_seconds

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.read(self.export)

    @cached_property
    def digests(self) -> dict[str, str]:
        return comparable_digests(self.export)

    @cached_property
    def former(self) -> Path:
        """Another export, which the good one replaces; its card was edited."""
        folder = self._folder / "former"
        make_export(folder, ranks=2)
        (folder / "README.md").write_bytes(EDITED_CARD)
        return folder

    @cached_property
    def unfinished(self) -> Path:
        """A folder whose export to `out` was killed with two components finished."""
        folder = self._folder / "unfinished"
        folder.mkdir()
        begun = next(number for number, change in enumerate(self.changes) if change.endswith("artifacts/vae_decoder"))
        fault = inflict.KilledAtOperation(folder, begun)
        options = {"model": str(self.checkpoint), "output": folder / "out"}
        assert self.warm.run(actions.export, options, fault, bound=BOUND_S).status == -9
        assert len(list(folder.glob(".out.partial/finished/*.json"))) == 2
        return folder

    @cached_property
    def cache(self) -> Path:
        """Home of a client that has pulled the former export."""
        home = self._folder / "home"
        with FakeHub() as hub:
            fill_with_former(hub, self.former)
            self.run(actions.pull, actions.HubClient(hub.url, home), {})
        return home

    @cached_property
    def encoded(self) -> str:
        """Digest of what the text encoder computes."""
        return self.run(actions.encode, self.export, self._folder / "loaded", 1).result

    @cached_property
    def drawn(self) -> list[str]:
        """Digests of the pictures that the good export draws, by number of the prompt."""
        return self.run(actions.draw_alone, self.export).result

    @cached_property
    def pushing(self) -> list[Request]:
        """Requests of a push of the good export over the former one."""
        with FakeHub() as hub:
            fill_with_former(hub, self.former)
            self.run(actions.push, actions.HubClient(hub.url, self._folder / "pushing"), self.export)
            return list(hub.requests)

    @cached_property
    def pulling(self) -> list[Request]:
        """Requests of a pull of the good export into a cache with the former one."""
        home = Path(shutil.copytree(self.cache, self._folder / "pulling", symlinks=True))
        with FakeHub() as hub:
            fill_with_good(hub, self.former, self.export)
            self.run(actions.pull, actions.HubClient(hub.url, home), {})
            return list(hub.requests)


def fill_with_former(hub: FakeHub, former: Path) -> None:
    """The repository as an earlier push and its owner left it: a former export, an edited card, a picture."""
    hub.create(actions.REPO, {**content(former), "cat.png": PICTURE})


def fill_with_good(hub: FakeHub, former: Path, export: Path) -> None:
    """The same with the good export on top."""
    fill_with_former(hub, former)
    files = {**content(export), "README.md": EDITED_CARD, "cat.png": PICTURE}
    hub.repositories[actions.REPO].commit(hub.stored(files), "good")


def comparable_digests(export: Path) -> dict[str, str]:
    """Digests of an export's files, by path.

    Of a program without the numbers that TorchScript gives its classes, which count what a process has compiled.
    """
    found = {}
    for name in Manifest.read(export).files:
        path = export / name
        found[name] = full_digest(path) if path.suffix != ".neuron" else _program_digest(path)
    return found


def _program_digest(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith(_DERIVED)]
        parts = sorted(_MANGLED.sub(b"", name.encode() + b"\n" + archive.read(name)) for name in names)
    return hashlib.sha256(b"\n".join(parts)).hexdigest()

"""The folders of one fault: an output with files of the user's beside it, and what has to hold when it is over."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest

from . import actions
from .fault import Fault
from .undisturbed import BOUND_S, Undisturbed, comparable_digests
from .warm import Outcome

_USERS = {
    "exports/holiday.png": b"\0holiday",
    "exports/out.txt": b"not the output",
    "exports/.out.partial.txt": b"nor its unfinished sibling",
    "exports/.notes/out": b"hidden",
    "pictures/out/model_index.json": b"{}",
}
"""Files of the user's around an output `exports/out`, some of them with names much like what an export makes."""


class Stage:
    """What one fault acts on: a folder, with the `output` of exports in it, and what is compared with."""

    def __init__(self, fault: Fault, undisturbed: Undisturbed, folder: Path) -> None:
        self.fault = fault
        self.undisturbed = undisturbed
        self.folder = folder
        self.output = folder / "exports" / "out"
        for name, users in _USERS.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(users)

    @property
    def options(self) -> dict:
        """Of the export."""
        return {"model": str(self.undisturbed.checkpoint), "output": self.output}

    def bring(self, folder: Path) -> Path:
        """Copy a folder to the output."""
        return Path(shutil.copytree(folder, self.output, symlinks=True))

    def run(self, function: Callable, *arguments: object) -> Outcome:
        """One run that ends within its bound, however it ends, and leaves no process."""
        return self.check_ended(self.undisturbed.warm.run(function, *arguments, bound=BOUND_S))

    def run_while(self, act: Callable[[psutil.Process], object], function: Callable, *arguments: object) -> Outcome:
        """The same with `act` called again and again with the run's process, as long as it goes on."""
        warm = self.undisturbed.warm
        process = psutil.Process(warm.start(function, *arguments, bound=BOUND_S))
        while warm.running:
            with suppress(psutil.Error):
                act(process)
            time.sleep(0.005)
        return self.check_ended(warm.wait())

    def succeed(self, function: Callable, *arguments: object) -> Outcome:
        outcome = self.run(function, *arguments)
        assert outcome.returned, f"{self.fault}: the next run fails: {outcome.message}\n{outcome.output}"
        return outcome

    def check_ended(self, outcome: Outcome) -> Outcome:
        assert not outcome.hung, f"{self.fault}: hung for {BOUND_S:.0f} s\n{outcome.output}"
        assert not outcome.left, f"{self.fault}: left processes {outcome.left}"
        return outcome

    @contextmanager
    def keeping(self, *folders: Path) -> Iterator[None]:
        """Have every file of the user's, of the checkpoint and of these folders be the same after the block."""
        kept = [self.folder / name for name in _USERS] + [self.undisturbed.checkpoint, *folders]
        before = {path: digests(path) for path in kept}
        yield
        for path in kept:
            assert digests(path) == before[path], f"{self.fault}: {path} was changed"

    def check_good(self, output: Path) -> None:
        """The output is what an undisturbed export makes, and its manifest knows every byte."""
        assert comparable_digests(output) == self.undisturbed.digests
        found = self.succeed(actions.verdicts, output).result
        assert found == {"sizes": None, "full": None}, f"{self.fault}: {found}"
        wanted = self.undisturbed.manifest.model_copy(update={"files": {}})
        assert Manifest.read(output).model_copy(update={"files": {}}) == wanted

    def check_nothing_hidden(self) -> None:
        """Nothing lies beside the output but the user's files, and nothing in shared memory."""
        expected = {name.split("/")[1] for name in _USERS if name.startswith("exports/")} | {self.output.name}
        assert _names(self.output.parent) == expected
        assert not self.undisturbed.warm.shared_memory()

    def check_recovers(self, *, force: bool = False) -> None:
        """The same export again makes the good one, and leaves nothing else."""
        self.succeed(actions.export, {**self.options, "force": force})
        self.check_good(self.output)
        self.check_nothing_hidden()

    def judge(self) -> str:
        """What the output is after an export that did not end well: nothing, something refused, or the good one."""
        if not self.output.exists():
            return "absent"
        found = self.succeed(actions.verdicts, self.output).result
        if found["full"] is None:
            assert (self.output / MANIFEST_FILE).is_file()
            self.check_good(self.output)
            return "whole"
        return "refused"


def digests(path: Path) -> dict[str, str]:
    """Of a file, or of every file below a folder; links are followed to files and are named too."""
    paths = [path] if path.is_file() else [below for below in path.rglob("*") if below.is_file()]
    return {os.path.relpath(each, path): hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(paths)}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

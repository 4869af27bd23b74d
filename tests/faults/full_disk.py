"""Disks that are full: a small tmpfs in a mount namespace of its own, or a limit on the size of files."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import actions
from .broken_hub import download
from .inflict import NoRoom
from .stage import Stage

_CLONE_NEWUSER, _CLONE_NEWNS = 0x10000000, 0x00020000
_DOWNLOADS = (3, 7)
"""Numbers of the faults that strike a download."""


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs that only processes see which enter it; armed like a fault."""

    folder: Path
    holder: int  # the process that keeps it

    def arm(self) -> None:
        enter = ctypes.CDLL(None, use_errno=True).setns
        for name, kind in (("user", _CLONE_NEWUSER), ("mnt", _CLONE_NEWNS)):
            descriptor = os.open(f"/proc/{self.holder}/ns/{name}", os.O_RDONLY)
            if enter(descriptor, kind):
                raise OSError(ctypes.get_errno(), f"cannot enter the {name} namespace")
            os.close(descriptor)

    def resize(self, size: str) -> None:
        command = ["nsenter", "--user", "--mount", "--target", str(self.holder), "--preserve-credentials"]
        subprocess.run([*command, "mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def seen(self, path: Path) -> Path:
        """A path on it, for a process that has not entered."""
        return Path(f"/proc/{self.holder}/root{path}")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk | None]:
    """A tmpfs of `size` bytes over a folder; None where this machine lets nobody mount. It goes with its holder."""
    script = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec cat'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(size), str(folder)]
    try:
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except FileNotFoundError:
        yield None
        return
    try:
        mounted = holder.stdout.readline() == "mounted\n"
        yield SmallDisk(folder, holder.pid) if mounted else None
    finally:
        holder.communicate("")


def full_disk(stage: Stage) -> str:
    """Let a disk fill up during an export or a download; the same command succeeds when there is room."""
    if stage.fault.number in _DOWNLOADS:
        return _download(stage)
    if stage.fault.number % 2:
        return _export_to_limit(stage)
    whole = sum(record.size for record in stage.undisturbed.manifest.files.values())
    size = int(stage.fault.random.uniform(0.05, 0.95) * whole)
    with small_disk(stage.output.parent, size) as disk:
        return _export_to_disk(stage, disk) if disk else _export_to_limit(stage)


def _download(stage: Stage) -> str:
    with download(stage) as way:
        limit = stage.fault.random.randrange(_longest(stage))
        outcome = stage.run(*way.begin, NoRoom(limit))
        assert outcome.error == "HubError" and "\n" not in outcome.message, outcome
        assert "File too large" in outcome.message, outcome
        way.check_kept()
        way.check_done(stage.succeed(*way.begin))
    return "download refused"


def _export_to_limit(stage: Stage) -> str:
    limit = stage.fault.random.randrange(4096, _longest(stage))
    largest = max(path.stat().st_size for path in (stage.undisturbed.checkpoint / "tokenizer").iterdir())
    # Before there is an output the tokenizer is tried, in a folder of temporary files.
    tried = f"{stage.undisturbed.warm.temporary} has no room to load a T5Tokenizer: "
    with stage.keeping():
        _check_refused(stage, NoRoom(limit), tried if limit < largest else None)
        assert not stage.output.exists()
        stage.check_recovers()
    return "export refused (limit)"


def _export_to_disk(stage: Stage, disk: SmallDisk) -> str:
    with stage.keeping():
        _check_refused(stage, disk)
        outputs = disk.seen(stage.output.parent)
        assert {path.name for path in outputs.iterdir()} <= {".out.partial"}
        assert not list(outputs.rglob("model_index.json")), "nothing on it can be taken for an export"
        disk.resize("64m")
        stage.succeed(actions.export, stage.options, disk)
        assert [path.name for path in outputs.iterdir()] == [stage.output.name]
        stage.check_good(outputs / stage.output.name)
    return "export refused (tmpfs)"


def _check_refused(stage: Stage, disk: NoRoom | SmallDisk, reason: str | None = None) -> None:
    outcome = stage.run(actions.export, stage.options, disk)
    assert outcome.error == "OutputFull", outcome
    assert outcome.message.startswith(reason or f"{stage.output.parent} has no room for the export: "), outcome


def _longest(stage: Stage) -> int:
    return max(record.size for record in stage.undisturbed.manifest.files.values())

"""Faults that a run inflicts on itself: each is armed in the forked child, before its work begins."""

import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CHANGING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}
EXCHANGE = "exchange"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Unharmed:
    """No fault."""

    def arm(self) -> None:
        pass


UNHARMED = Unharmed()


@dataclass(frozen=True)
class KilledAtOperation:
    """Killed just before an operation that changes files below a folder: the one of this number, from 0.

    Attributes:
        only: count only the operation of this text, as `watch_changes` announces it.
    """

    folder: Path
    number: int
    only: str | None = None

    def arm(self) -> None:
        done = 0

        def count(operation: str) -> None:
            nonlocal done
            if self.only not in (None, operation):
                return
            if done == self.number:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1

        watch_changes(self.folder, count)


@dataclass(frozen=True)
class KilledAtMoment:
    """Ended by the system, without a word of Python, after so many seconds of its own processor time."""

    seconds: float

    def arm(self) -> None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, self.seconds)


@dataclass(frozen=True)
class KilledWithinFile:
    """Ended by the system within the write that makes a file longer than so many bytes; the file ends there."""

    size: int

    def arm(self) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


@dataclass(frozen=True)
class NoRoom:
    """Writes that make a file longer than so many bytes fail with EFBIG, after a part, as on a full disk."""

    size: int

    def arm(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


def watch_changes(folder: Path, before: Callable[[str], None]) -> None:
    """Have each operation of this process on files below `folder` announced before it is done.

    Also each fsync, and the exchange of two names, of which Python knows nothing. An audit hook cannot be removed;
    paths relative to an open folder, as `shutil.rmtree` has them, are announced too.
    """
    from optimum_pixart_neuron.export import unfinished

    flush, exchange, prefix = os.fsync, unfinished.exchange, os.fspath(folder)

    def fsync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(prefix):
            before("fsync")
        flush(descriptor)

    def exchange_announced(first: Path, second: Path) -> bool:
        before(EXCHANGE)
        return exchange(first, second)

    def hook(event: str, arguments: tuple) -> None:
        if event not in _CHANGING and not (event == "open" and arguments[2] & _WRITING):
            return
        path = arguments[0]
        if not isinstance(path, str | os.PathLike):
            return
        path = os.fspath(path)
        if path.startswith(prefix) or not os.path.isabs(path):
            before(f"{event} {path}")

    os.fsync, unfinished.exchange = fsync, exchange_announced
    sys.addaudithook(hook)

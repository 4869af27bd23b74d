"""What bounds a hostile repository in the process that tries it, and what notices that code of it ran."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROCESSOR_S, WALL_S = 30, 240
"""Of one case; the process is ended at either."""
MEMORY_BYTES = 2 << 30
"""Of address space beyond what the process has when it begins."""
MOST_BYTES = 256 << 20
"""That a case may need: several times the largest file that is read."""

_STARTING = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")
_ASKING = ("builtins.input", "socket.connect", "socket.getaddrinfo")
_CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.chmod", "os.chown", "os.mkdir", "os.symlink", "os.link")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """Notes what the process does that no repository may have it do. There is one a process: its hook stays."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    @contextmanager
    def of(self, folder: Path) -> Iterator[list[str]]:
        """What is done within the block, as far as it has to do with files of a folder, or starts or asks anybody."""
        self.seen = []
        self._folder = os.path.realpath(folder)
        try:
            yield self.seen
        finally:
            self._folder = None

    def _hear(self, event: str, arguments: tuple) -> None:
        if self._folder is None:
            return
        if event in _STARTING or event in _ASKING:
            self.seen.append(event)
        elif event == "exec" and self._is_inside(getattr(arguments[0], "co_filename", "")):
            self.seen.append(f"ran {arguments[0].co_filename}")
        elif event == "import" and arguments[1] and self._is_inside(arguments[1]):
            self.seen.append(f"imported {arguments[1]}")
        elif event == "ctypes.dlopen" and self._is_inside(arguments[0]):
            self.seen.append(f"{event} {arguments[0]}")
        elif event in _CHANGING and arguments[-1] in (-1, None) and self._is_inside(arguments[0]):
            self.seen.append(f"{event} {arguments[0]}")  # paths relative to an open folder are of temporary ones
        elif event == "open" and arguments[2] & _WRITING and self._is_inside(arguments[0]):
            self.seen.append(f"wrote {arguments[0]}")

    def _is_inside(self, path: object) -> bool:
        if not isinstance(path, str | os.PathLike) or os.fspath(path).startswith("<"):
            return False
        with suppress(ValueError):
            return os.path.abspath(path).startswith(f"{self._folder}{os.sep}")
        return False


def bound_memory() -> None:
    """From now on the process may have no more than so much more address space."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def bounded_time() -> Iterator[None]:
    """The signals' own action ends the process: what hangs in a library runs no handler of Python's."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
    signal.alarm(WALL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

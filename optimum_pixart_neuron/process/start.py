"""Start Python so that nothing of the current folder runs in it, and so that it does not outlive who started it.

`python -m` and `python -c` put the current folder in front of the import path, where a file json.py stands in for the
library of that name; an empty or relative entry of PYTHONPATH does the same. So a child runs the script `entry.py` and
gets its parent's import path without the current folder.
"""

import fcntl
import json
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ENTRY = Path(__file__).with_name("entry.py")
_PACKAGE = Path(__file__).parents[1]
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


class ModuleProcess(subprocess.Popen):
    """A module of this package, run as `__main__` in a Python of its own.

    It gets SIGTERM when this process ends, however that happens, and when this object is collected: a pipe between
    them is closed then. The kernel's own signal for it, PR_SET_PDEATHSIG, comes when the thread ends that started the
    child.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        descriptors: Sequence[int] = (),
        watched: bool = True,
        **options: Any,
    ):
        """Start it.

        Args:
            module: its name.
            arguments: its `sys.argv[1:]`. They travel in the pipe, where other users of the machine cannot read them.
            descriptors: open files for the child. Their numbers there follow the arguments.
            watched: False for a module that watches its parent by other means, and may have no thread for it.
            options: of `subprocess.Popen`. A standard stream that this process lacks is /dev/null in the child.
        """
        for name, number in _STREAMS.items():
            if not is_open(number):
                options.setdefault(name, subprocess.DEVNULL)
        options["env"] = child_environment(options.get("env", os.environ))
        reader, lifeline = _pipe_above_streams()
        self._lifeline: int | None = lifeline
        passed = [reader, *map(above_streams, descriptors)]
        start = {
            "module": module,
            "arguments": [*arguments, *map(str, passed[1:])],
            "path": import_path(),
            "package": [_PACKAGE.name, str(_PACKAGE)],
            "parent": os.getpid() if watched else None,
        }
        try:
            super().__init__([sys.executable, str(_ENTRY), module, str(passed[0])], pass_fds=passed, **options)
            _send(lifeline, json.dumps(start).encode())
        except BaseException:
            self._close_lifeline()
            raise
        finally:
            for each in passed:
                os.close(each)
        if not watched:
            self._close_lifeline()

    def wait(self, timeout: float | None = None) -> int:
        """As `subprocess.Popen.wait`."""
        status = super().wait(timeout)
        self._close_lifeline()
        return status

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def __del__(self, *arguments: Any) -> None:
        self._close_lifeline()
        super().__del__(*arguments)


def _send(pipe: int, content: bytes) -> None:
    left = memoryview(len(content).to_bytes(8, "little") + content)
    try:
        while left:
            left = left[os.write(pipe, left) :]
    except BrokenPipeError:
        pass  # the child is gone already, which its status tells


def import_path() -> list[str]:
    """Where this process imports from, without the current folder unless Python itself is installed there."""
    return _without_current_folder(sys.path)


def child_environment(environment: Any) -> dict[str, str]:
    """The environment for a child: entries of PYTHONPATH that mean the current folder, or lie in it, are left out."""
    kept = dict(environment)
    entries = _without_current_folder(kept.pop("PYTHONPATH", "").split(os.pathsep))
    return {**kept, "PYTHONPATH": os.pathsep.join(entries)} if entries else kept


def _without_current_folder(entries: Sequence[Any]) -> list[str]:
    pythons_own = {*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()}
    return [
        entry
        for entry in entries
        if isinstance(entry, str)  # Python itself ignores others
        and (_is_placeholder(entry) or os.path.isabs(entry))
        and (entry in pythons_own or not _is_current_folder(entry))
    ]


def _is_placeholder(entry: str) -> bool:
    """Whether it stands for namespace packages of an editable install (setuptools), not for a path."""
    return entry.startswith("__editable__.") and entry.endswith(".__path_hook__") and not os.path.lexists(entry)


def _is_current_folder(entry: str) -> bool:
    try:
        return os.path.samefile(entry, os.curdir)
    except OSError:
        return False  # one of them is not there


def is_open(descriptor: int) -> bool:
    """Whether this process has an open file of this number."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def above_streams(descriptor: int) -> int:
    """A copy whose number is none of the standard streams', which a process that lacks them would give out."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, len(_STREAMS))


def _pipe_above_streams() -> tuple[int, int]:
    ends = os.pipe()
    try:
        return above_streams(ends[0]), above_streams(ends[1])
    finally:
        for end in ends:
            os.close(end)

"""What a child of `start.py` runs, as a script: its import path first, then the module that it is for.

Called as `entry.py MODULE DESCRIPTOR`; the name is there for who looks at the list of processes.
"""

import os  # this and sys are imported before any script is
import sys

_GRACE_S = 10.0
"""Seconds that a module without a parent gets to stop its workers and remove its unfinished output."""


def main() -> None:
    """Read the parent's record from the pipe, then become the module."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry and entry != here]
    import json

    lifeline = int(sys.argv[2])
    os.set_inheritable(lifeline, False)
    start = json.loads(_read(lifeline, int.from_bytes(_read(lifeline, 8), "little")))
    sys.path[:] = start["path"]
    sys.argv[1:] = start["arguments"]
    _say_nothing_twice()
    end_at_once()
    _import_package(*start["package"])
    if start["parent"] is None:
        os.close(lifeline)
    else:
        _watch(lifeline, start["parent"])
    import runpy

    runpy.run_module(start["module"], run_name="__main__", alter_sys=True)


def _say_nothing_twice() -> None:
    """Leave out what the host's packages say while they are imported: the command has said it, in the process before.

    That there is no NeuronCore here (optimum-neuron 0.4.5, `optimum.neuron` and its `utils.system`), and that several
    distributions share the name space `optimum` (diffusers 0.35, `utils.import_utils`).
    """
    import logging
    import warnings

    warnings.filterwarnings("ignore", message="It seems this is running on a CPU-only machine", category=UserWarning)
    logging.getLogger("optimum.neuron.utils.system").setLevel(logging.CRITICAL)
    logging.getLogger("diffusers.utils.import_utils").setLevel(logging.ERROR)


def end_at_once() -> None:
    """Leave all that this process imports to the kernel at its end: Python would look for cycles in it for seconds."""
    import atexit
    import gc

    atexit.register(gc.freeze)


def _read(descriptor: int, length: int) -> bytes:
    content = b""
    while len(content) < length:
        piece = os.read(descriptor, length - len(content))
        if not piece:
            sys.exit(1)  # the parent died while it started this process
        content += piece
    return content


def _import_package(name: str, folder: str) -> None:
    """Import the package that the parent runs from where it lies, which may be the current folder."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, "__init__.py"))
    assert spec is not None and spec.loader is not None
    sys.modules[name] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def _watch(lifeline: int, parent: int) -> None:
    """Have a thread wait for the parent's end, have this process clean up then, and end it where it cannot."""
    # Not in the thread: one that imports while Python ends may crash it.
    import select
    import signal
    import threading
    import time

    closing = select.poll()
    closing.register(lifeline, select.POLLIN)

    def wait() -> None:
        # A fork of the parent may hold the other end open, so its process id is looked at as well.
        while not closing.poll(1000) and os.getppid() == parent:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()

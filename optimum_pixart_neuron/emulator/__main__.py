"""`python -m optimum_pixart_neuron.emulator SCRIPT ARGS...` or `... -m MODULE ARGS...`: run it on the emulated SDK."""

import runpy
import sys
from pathlib import Path

from . import activate

USAGE = "usage: python -m optimum_pixart_neuron.emulator (SCRIPT | -m MODULE) [ARGS...]"


def main(arguments: list[str]) -> None:
    """Activate the emulator and run a script or module as `__main__`, unchanged."""
    as_module = arguments[:1] == ["-m"]
    command = arguments[1:] if as_module else arguments
    if not command or command[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments and not as_module else sys.stderr)
        raise SystemExit(0 if arguments and not as_module else 2)
    try:
        activate()
    except (RuntimeError, ValueError) as error:
        raise SystemExit(str(error)) from None
    sys.argv = command
    if as_module:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    else:
        if not Path(command[0]).exists():
            raise SystemExit(f"no such script: {command[0]}")
        sys.path[0] = str(Path(command[0]).resolve().parent)  # as `python SCRIPT` has it
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The process of `export.publish` that draws with what was exported: the one that compiles holds no cores."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..artifact.manifest import Manifest
from ..neuron.sdk import ensure_sdk
from .frame import run_main

PROG = "example picture"


def main(argv: Sequence[str]) -> int:
    """Draw with the export whose folder is the only argument, and return the exit status."""
    return run_main(PROG, lambda: _draw(Path(argv[0])))


def _draw(folder: Path) -> None:
    logging.getLogger("optimum_pixart_neuron.emulator").setLevel(logging.ERROR)  # who asks has announced it
    manifest = Manifest.read(folder)
    ensure_sdk(manifest.instance if manifest else None)
    from ..runtime.example import draw_example

    draw_example(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

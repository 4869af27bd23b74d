"""`optimum-cli neuron pixart-demo`: its flags, and the process that demonstrates."""

from __future__ import annotations

import sys
from typing import Any

from ..demo.demo import DemoOptions, demonstrate
from .command import Command


def _demonstrate(given: dict[str, Any]) -> None:
    demonstrate(DemoOptions(**given))


COMMAND = Command(
    prog="optimum-cli neuron pixart-demo",
    usage="[options] [output]",
    summary="Export a small trained PixArt-Sigma and draw with it beside diffusers; downloads nothing.",
    options=tuple(DemoOptions.options()),
    work=_demonstrate,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main(sys.argv[1:]))

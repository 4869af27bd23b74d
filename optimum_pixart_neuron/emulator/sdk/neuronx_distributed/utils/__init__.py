"""Process-wide switches (NxD 0.15 `utils/__init__.py`)."""

import os

from .utils import hardware


def cpu_mode() -> bool:
    """Whether `NXD_CPU_MODE` asks NxD to run its collectives on gloo; the emulator's own runtime does not need it."""
    return int(os.environ.get("NXD_CPU_MODE", "0")) > 0


__all__ = ["cpu_mode", "hardware"]

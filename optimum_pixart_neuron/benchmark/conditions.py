"""The machine and the process of a measurement."""

import os
import platform
import re
from pathlib import Path

import psutil
import torch
from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MachineRecord(Record):
    """Where a benchmark ran.

    Attributes:
        instance: product name of the machine, or of what the emulator stands for.
        cpu: model name of the host's CPU.
        cpus: logical CPUs that this process may use.
        torch_threads: of this process.
        memory_bytes: RAM of the host.
        system: operating system and kernel.
    """

    instance: str
    cpu: str
    cpus: int
    torch_threads: int
    memory_bytes: int
    system: str
    python: str

    @classmethod
    def here(cls, instance: str) -> "MachineRecord":
        """This machine."""
        return cls(
            instance=instance,
            cpu=_cpu(),
            cpus=len(os.sched_getaffinity(0)),
            torch_threads=torch.get_num_threads(),
            memory_bytes=psutil.virtual_memory().total,
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=platform.python_version(),
        )


class MemoryRecord(Record):
    """Peak resident memory on the host, in bytes.

    Attributes:
        main: of this process: loading, and everything outside the compiled programs.
        largest_rank: of the largest process of the emulator, whose ranks stand for the device; they are not part of
            `main`. None with the SDK, which has none.
    """

    main: int
    largest_rank: int | None

    @classmethod
    def here(cls, *, emulated: bool) -> "MemoryRecord":
        """So far; while the pipeline is loaded, because its ranks end with it."""
        children = psutil.Process().children(recursive=True) if emulated else ()
        peaks = (_peak(child.pid) for child in children)
        return cls(main=_peak(os.getpid()) or 0, largest_rank=max(filter(None, peaks), default=None))


def _peak(pid: int) -> int | None:
    """Peak of a process; None if it has ended.

    Not `getrusage`: its figure survives exec, so that of a child process starts at the peak of its parent.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()

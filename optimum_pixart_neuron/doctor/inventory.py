"""What there is to see of a machine: packages, devices, who holds them, memory and disks. Nothing is started or taken.

Sources: `neuron-ls --json-output` of aws-neuronx-tools (AWS Neuron SDK documentation,
tools/neuron-sys-tools/neuron-ls.rst) lists devices with `neuron_device`, `nc_count`, `neuron_processes`; the driver is
the kernel module `neuron`, whose version the kernel shows, and its devices are /dev/neuron0, /dev/neuron1, ...
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ..errors import printable
from ..hardware.sdk_releases import BRIDGE, COMPILER, DISTRIBUTED, FRAMEWORK
from ..neuron.sdk import versions_of

HOST_PACKAGES = ("optimum-neuron", "optimum", "torch", "diffusers", "transformers", "huggingface_hub", "numpy")
SDK_PACKAGES = (FRAMEWORK, DISTRIBUTED, COMPILER, BRIDGE)

_LISTING = "neuron-ls"
_PATIENCE_S = 10.0
_DEVICE = re.compile(r"neuron(\d{1,4})")
_LONGEST_COMMAND = 60  # characters


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a machine says what it is: folders of device files, of processes and, behind PATH, of AWS's tools; files
    with the version of the loaded driver and with the name of the instance type.
    """

    devices: Path = Path("/dev")
    driver_version: Path = Path("/sys/module/neuron/version")
    product_name: Path = Path("/sys/devices/virtual/dmi/id/product_name")
    processes: Path = Path("/proc")
    tools: Path = Path("/opt/aws/neuron/bin")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process, by its id, that has a device open; its command is told without arguments, which may be secrets."""

    process: int
    command: str
    device: int


@dataclass(frozen=True, kw_only=True)
class Host:
    """One machine, as it was seen.

    Attributes:
        python: major, minor and patch version.
        packages: versions of what is installed, by name; the SDK's too, none of them emulated.
        compiler: path of `neuronx-cc`; None where it is not on PATH.
        devices: numbers of the device files.
        driver: version of the loaded driver.
        instance: product name, None on a machine that does not say.
        cores: cores of each device by `neuron-ls`, empty without it.
        holders: other processes that have devices open.
        free_memory: bytes that processes can get.
        environment: the variables of this process.
    """

    python: tuple[int, int, int]
    packages: Mapping[str, str]
    compiler: str | None
    devices: tuple[int, ...]
    driver: str | None
    instance: str | None
    cores: Mapping[int, int]
    holders: tuple[Holder, ...]
    free_memory: int
    environment: Mapping[str, str] = field(repr=False)

    @property
    def has_sdk(self) -> bool:
        """Whether the Neuron SDK is installed for this Python."""
        return FRAMEWORK in self.packages

    @classmethod
    def seen(cls, places: Places) -> Host:
        """Look at this machine."""
        listed = _listed(places)
        return cls(
            python=sys.version_info[:3],
            packages=_packages(),
            compiler=shutil.which(COMPILER),
            devices=_devices(places.devices),
            driver=_line(places.driver_version),
            instance=_line(places.product_name),
            cores={number: device["nc_count"] for number, device in listed.items() if _is_count(device, "nc_count")},
            holders=_holders(listed, places),
            free_memory=psutil.virtual_memory().available,
            environment=dict(os.environ),
        )


def _packages() -> dict[str, str]:
    found = versions_of((*HOST_PACKAGES, *SDK_PACKAGES))
    return {name: version for name, version in found.items() if not version.endswith("+emulated")}


def _devices(folder: Path) -> tuple[int, ...]:
    names = os.listdir(folder) if folder.is_dir() else []
    return tuple(sorted(int(found[1]) for name in names if (found := _DEVICE.fullmatch(name))))


def _line(file: Path) -> str | None:
    """The first line of one of the kernel's files."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(4096).decode(errors="replace").splitlines()
    except OSError:
        return None
    return printable(lines[0].strip()) if lines and lines[0].strip() else None


def _listed(places: Places) -> dict[int, dict[str, Any]]:
    """What `neuron-ls` says of each device, by number; empty where it is not there or fails."""
    program = shutil.which(_LISTING) or shutil.which(_LISTING, path=str(places.tools))
    if program is None:
        return {}
    try:
        done = subprocess.run([program, "--json-output"], capture_output=True, timeout=_PATIENCE_S, check=True)
        devices = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    rows = [each for each in devices if isinstance(each, dict)] if isinstance(devices, list) else []
    return {each["neuron_device"]: each for each in rows if _is_count(each, "neuron_device")}


def _is_count(row: Mapping[str, Any], key: str) -> bool:
    return type(row.get(key)) is int and row[key] >= 0


def _holders(listed: Mapping[int, Mapping[str, Any]], places: Places) -> tuple[Holder, ...]:
    """From `neuron-ls`; without it, whoever has a device file open, as far as this user may see."""
    if not listed:
        return _open_files(places)
    found = []
    for device, row in listed.items():
        for each in row.get("neuron_processes") or ():
            if isinstance(each, dict) and _is_count(each, "pid") and _LISTING not in str(each.get("command", "")):
                found.append(Holder(process=each["pid"], command=_command(each.get("command")), device=device))
    return tuple(found)


def _open_files(places: Places) -> tuple[Holder, ...]:
    found: set[Holder] = set()
    for process in places.processes.iterdir() if places.processes.is_dir() else ():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            found |= {
                Holder(process=int(process.name), command=_command_of(process), device=device)
                for device in _opened(process, places.devices)
            }
    return tuple(sorted(found, key=lambda holder: (holder.device, holder.process)))


def _opened(process: Path, devices: Path) -> set[int]:
    opened = set()
    with suppress(OSError):  # of another user, or gone
        for link in list((process / "fd").iterdir()):
            with suppress(OSError):  # closed since
                target = Path(os.readlink(link))
                named = _DEVICE.fullmatch(target.name)
                if named and target.parent == devices:
                    opened.add(int(named[1]))
    return opened


def _command_of(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return "?"
    return _command(words.decode(errors="replace"))


def _command(text: object) -> str:
    """The program, and its script if it has one: arguments may be secrets."""
    words = str(text or "?").split()
    shown = [Path(word).name for word in words[:2] if not word.startswith("-")]
    return printable(" ".join(shown) or "?", _LONGEST_COMMAND)

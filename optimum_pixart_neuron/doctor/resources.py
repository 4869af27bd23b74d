"""Whether the machine has what an export takes: devices, free cores, memory, disks, caches and the Hub."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..errors import InvalidExportOption
from ..hardware import CORE_VARIABLES, GIB, Instance, get_instance, runtime_cores
from ..neuron.compile_cache import DEFAULT_FOLDER, URL, CompileCache
from ..neuron.sdk import emulated_choice
from .findings import Finding
from .inventory import Host
from .needs import MODEL, Needs, downloaded_bytes


def instance_of(host: Host) -> Instance | None:
    """What is known of the machine; None if it is no instance with NeuronCores, or an unknown one."""
    try:
        return get_instance(host.instance or "")
    except ValueError:
        return None


def emulated_on(host: Host) -> Instance | None:
    """What the emulator is on a machine without NeuronCores and SDK; None on others, and where it cannot start."""
    if host.has_sdk or host.devices:
        return None
    try:
        return get_instance(emulated_choice())
    except InvalidExportOption:
        return None


def check_devices(host: Host) -> Finding:
    """Whether the machine has the devices of its kind."""
    instance = instance_of(host)
    if not host.devices:
        if instance is None:
            return _check_without_devices(host)
        return Finding(
            f"none, and a {instance.name} has {instance.chips}",
            remedy="load the driver (sudo modprobe neuron); pass a container its devices (--device /dev/neuron0)",
        )
    shown = f"{len(host.devices)} on {host.instance or 'a machine that does not say what it is'}"
    if instance is None:
        return Finding(
            f"{shown}, which this package does not know",
            remedy="name one that it knows with --instance_type at the export, as trn1, trn2 or inf2",
        )
    return Finding(shown, note=len(host.devices) != instance.chips)


def _check_without_devices(host: Host) -> Finding:
    if host.has_sdk:
        return Finding("none: exports compile with --instance_type, and are not validated here", note=True)
    try:
        name = emulated_choice()
    except InvalidExportOption as error:
        return Finding("none, and the emulator cannot start", remedy=str(error))
    return Finding(f"none: the emulator is a {name}, and exports are compiled and validated on it", note=True)


def check_cores(host: Host, needs: Needs) -> Finding | None:
    """Whether the cores that this process would take exist and are free."""
    instance = instance_of(host)
    if not host.devices or instance is None:
        return None
    try:
        taken = runtime_cores(instance, host.environment)
    except ValueError as error:
        return Finding("cannot be taken", remedy=str(error))
    visible, present = taken.visible, instance.logical_cores(taken.lnc)
    a_device = present // instance.chips
    held = {each: range(each.device * a_device, (each.device + 1) * a_device) for each in host.holders}
    busy = [each for each, cores in held.items() if cores.start < visible.stop and cores.stop > visible.start]
    if busy:
        free = _longest_run([core for core in range(present) if not any(core in held[each] for each in busy)])
        others = f", or set {CORE_VARIABLES[0]}={free.start}-{free.stop - 1}" if len(free) >= needs.ranks else ""
        process = f"process {busy[0].process} ({busy[0].command})"
        return Finding(f"{process} holds device {busy[0].device}", remedy=f"end {process}{others}")
    shown = f"{len(visible)} of {present} visible, none held" + (f" ({taken.chosen_by})" if taken.chosen_by else "")
    if len(visible) < needs.ranks:
        return Finding(
            shown, remedy=f"make {needs.ranks} visible, or export with --tensor_parallel_size {len(visible)}"
        )
    return Finding(shown)


def _longest_run(cores: list[int]) -> range:
    longest = current = range(0)
    for core in cores:
        current = range(current.start, core + 1) if current and core == current.stop else range(core, core + 1)
        longest = max(longest, current, key=len)
    return longest


def check_memory(host: Host, needs: Needs) -> Finding:
    """Whether the host's memory holds the compilation of the largest program."""
    wanted = f"an export for {needs.instance.name} takes about {_gib(needs.memory)} with the compiler"
    remedy = "end what holds it, or compile on a machine with more, naming this one's type with --instance_type"
    enough = host.free_memory >= needs.memory
    return Finding(f"{_gib(host.free_memory)} free, {wanted}", remedy="" if enough else remedy)


def check_disk(needs: Needs, output: Path, hub_cache: Path) -> Finding:
    """Whether the disks have room for the download and the export; they may be one."""
    download = max(0, needs.checkpoint - downloaded_bytes(hub_cache))
    place, cache = _existing(output), _existing(hub_cache)
    wanted = {place: needs.export}
    if download:
        same = place.stat().st_dev == cache.stat().st_dev
        wanted = {place: needs.export + download} if same else {place: needs.export, cache: download}
    for folder, bytes_wanted in wanted.items():
        free = shutil.disk_usage(folder).free
        if free < bytes_wanted:
            return Finding(
                f"{_gib(free)} free on the disk of {folder}, {_gib(bytes_wanted)} are needed",
                remedy=f"free {_gib(bytes_wanted - free)} there, or choose other disks with --output and HF_HOME",
            )
    more = f" and its download {_gib(download)}" if download else ", the model is downloaded"
    return Finding(f"{_gib(shutil.disk_usage(place).free)} free, an export takes {_gib(needs.export)}{more}")


def check_caches(host: Host, hub_cache: Path) -> Finding:
    """Whether the compiler's cache and the Hub's can be written."""
    try:
        compiled = CompileCache.chosen(host.environment).url or DEFAULT_FOLDER
    except InvalidExportOption as error:
        return Finding("cannot be told", remedy=str(error))
    place = compiled.removeprefix("file://")
    folder, local = Path(place), "://" not in place
    for cache, variable in (*([(folder, URL)] if local else []), (hub_cache, "HF_HOME")):
        above = _existing(cache)
        if not os.access(above, os.W_OK | os.X_OK):
            return Finding(
                f"{cache} cannot be written",
                remedy=f"mend the rights of {above}, or name another folder with {variable}",
            )
    if not local:
        return Finding(f"{compiled}, not looked at")
    return Finding(f"{sum(1 for _ in folder.glob('neuronxcc-*/MODULE_*'))} programs in {compiled}")


def check_hub(problem: str | None, hub_cache: Path, needs: Needs) -> Finding:
    """Whether the released model can be had; `problem` is why the Hub does not give it, None if it does."""
    if problem is None:
        return Finding(f"{MODEL} can be read")
    if downloaded_bytes(hub_cache) >= needs.checkpoint // 2:  # the Hub may hold it in 16 bits
        return Finding(f"{problem}; the model is downloaded", note=True)
    remedy = "mend the way to the Hub (network, proxy, HF_ENDPOINT), or download the model elsewhere"
    if "token" in problem:
        remedy = "log in with `hf auth login`, or correct HF_TOKEN"
    elif "HF_HUB_OFFLINE" in problem:
        remedy = "unset HF_HUB_OFFLINE"
    return Finding(f"{MODEL}: {problem}", remedy=remedy)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = folder.absolute()
    return next(each for each in (absolute, *absolute.parents) if each.is_dir())


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"

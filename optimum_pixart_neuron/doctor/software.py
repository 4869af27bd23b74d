"""Whether what is installed fits together: Python, the SDK's release, the host's packages, compiler and driver."""

from __future__ import annotations

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from ..hardware.sdk_releases import (
    COMPILER,
    DEFAULT_RELEASE,
    FRAMEWORK,
    SDK_RELEASES,
    TORCH,
    SdkRelease,
    release_of,
    same_minor,
)
from .findings import Finding
from .inventory import SDK_PACKAGES, Host

_PACKAGE = "optimum-pixart-neuron"
_INSTALL = "pip install 'optimum-pixart-neuron[neuronx]' --extra-index-url https://pip.repos.neuron.amazonaws.com"


def check_python(host: Host) -> Finding:
    """The Python of this environment, against the SDK's release, or this package's own range."""
    shown, release = ".".join(map(str, host.python)), release_of(host.packages)
    if host.has_sdk and release is not None:
        first, last = release.pythons
        if not (3, first) <= host.python[:2] <= (3, last):
            return Finding(
                f"{shown}, and Neuron SDK {release.name} is for {release.python_range}",
                remedy=f"make the environment with Python {release.python_range}",
            )
    return Finding(f"{shown}, {sys.executable}")


def check_sdk(host: Host) -> Finding:
    """Which release of the SDK is installed, and whether its packages are of that one."""
    if not host.has_sdk:
        if host.devices:
            return Finding(
                "not installed here, though this machine has NeuronCores",
                remedy=f"activate the environment that has it, or {_INSTALL}",
            )
        return Finding("not installed: the emulator stands in", note=True)
    missing = [name for name in SDK_PACKAGES if name not in host.packages]
    if missing:
        return Finding(f"{missing[0]} is not installed", remedy=_INSTALL)
    release = release_of(host.packages)
    compiler = f"{COMPILER} {host.packages[COMPILER]}"
    if release is None:
        known = ", ".join(SDK_RELEASES)
        return Finding(f"{compiler}, of a release that this package has not been read against ({known})", note=True)
    for name in SDK_PACKAGES:
        if not same_minor(host.packages[name], release.versions[name]):
            return Finding(
                f"{compiler} is of release {release.name}, {name} {host.packages[name]} is not",
                remedy=f"pip install {name}=={release.versions[name]}",
            )
    return Finding(f"{release.name} ({compiler})", note=release.name != DEFAULT_RELEASE)


def check_torch(host: Host) -> Finding:
    """torch, which torch-neuronx is built for."""
    torch, framework = host.packages.get(TORCH, ""), host.packages.get(FRAMEWORK)
    if framework and not same_minor(torch, framework):
        minor = ".".join(framework.split(".")[:2])
        return Finding(
            f"{torch}, and {FRAMEWORK} {framework} is for {minor}", remedy=f"pip install 'torch=={minor}.*'"
        )
    return Finding(torch) if torch else Finding("not installed", remedy="pip install torch")


def check_packages(host: Host) -> Finding:
    """The host and its libraries, against the ranges that this package asks for."""
    for text in requires(_PACKAGE) or ():
        wanted = Requirement(text)
        installed = host.packages.get(wanted.name)
        if installed is None or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        if not wanted.specifier.contains(installed, prereleases=True):
            return Finding(
                f"{wanted.name} {installed}, and {wanted.specifier} is needed",
                remedy=f"pip install '{wanted.name}{wanted.specifier}'",
            )
    if "optimum-neuron" not in host.packages:
        return Finding("optimum-neuron is not installed", remedy=f"pip install {_PACKAGE}")
    names = ("optimum-neuron", "diffusers", "transformers", "numpy")
    return Finding(", ".join(f"{name} {host.packages[name]}" for name in names if name in host.packages))


def check_compiler(host: Host) -> Finding | None:
    """Whether the compiler can be called."""
    if not host.has_sdk:
        return None
    if host.compiler is None:
        remedy = "activate the environment, so that its bin folder is on PATH"
        return Finding(f"{COMPILER} is not on PATH", remedy=remedy)
    return Finding(host.compiler)


def check_driver(host: Host) -> Finding | None:
    """Whether the driver is loaded, and not older than the SDK's release."""
    if host.driver is None:
        if not host.has_sdk or not (host.devices or (host.instance or "").startswith(("inf2", "trn"))):
            return None
        return Finding(
            "not loaded",
            remedy="install aws-neuronx-dkms, then sudo modprobe neuron; in a container, load it on the host",
        )
    release = release_of(host.packages) if host.has_sdk else None
    if release is not None and _older(host.driver, release):
        return Finding(
            f"{host.driver}, and Neuron SDK {release.name} came with {release.driver}",
            remedy=f"update aws-neuronx-dkms to {release.driver} or later, then restart the machine",
        )
    return Finding(host.driver)


def _older(driver: str, release: SdkRelease) -> bool:
    try:
        return Version(driver) < Version(release.driver)
    except InvalidVersion:
        return False

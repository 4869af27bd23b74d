"""Which release of the SDK is emulated, and what its packages say of themselves.

The local part of the versions says that they are not the real ones. It also makes artifacts compiled here "newer" than
the real compiler (PEP 440: a local version sorts after its public one), so that optimum-neuron on hardware refuses
them.
"""

import os

from ..hardware.sdk_releases import DEFAULT_RELEASE, TORCH, SdkRelease, get_release

RELEASE_VARIABLE = "NEURON_EMULATOR_SDK"
_LOCAL_PART = "+emulated"


def emulated_release() -> SdkRelease:
    """By the variable `NEURON_EMULATOR_SDK`, else the one that optimum-neuron 0.4.5 pins.

    Raises:
        ValueError: there is no such release; names the known ones.
    """
    try:
        return get_release(os.environ.get(RELEASE_VARIABLE) or DEFAULT_RELEASE)
    except ValueError as error:
        raise ValueError(f"{RELEASE_VARIABLE}: {error}") from None


def distributions() -> dict[str, str]:
    """Version of each emulated package, by the name that pip knows."""
    versions = emulated_release().versions
    return {name: version + _LOCAL_PART for name, version in versions.items() if name != TORCH}

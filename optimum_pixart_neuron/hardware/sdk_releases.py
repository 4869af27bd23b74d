"""Releases of the Neuron SDK that people have, as one table: what is in each, and what differs for this package.

Sources (AWS Neuron SDK documentation and public packages), read on 2026-11-27:
    [content]  release-notes/releasecontent.html of v2.26.1, v2.31.0 and v2.33.0: packages of trn1, inf2 and trn2.
    [host]     optimum-neuron 0.4.5, its extra `neuronx`, and its main branch (0.4.6.dev4).
    [notes]    release notes of 2.27 to 2.33 and the announcements in them.
Where a release names no version of its own, the one before it is the last that was published.
"""

from collections.abc import Mapping
from dataclasses import dataclass

TORCH, FRAMEWORK, DISTRIBUTED = "torch", "torch-neuronx", "neuronx-distributed"
COMPILER, BRIDGE = "neuronx-cc", "libneuronxla"


@dataclass(frozen=True, kw_only=True)
class SdkRelease:
    """One release.

    Attributes:
        name: as AWS calls it.
        versions: of its Python packages, by the name that pip knows.
        driver: version of aws-neuronx-dkms.
        runtime: version of aws-neuronx-runtime-lib.
        pythons: first and last minor version of Python 3 that its packages are for.
        announced_errors: kinds of 64-bit integer operations that the compiler is to refuse unless it gets the flag
            `--native-int64`.
        flags: of its compiler, that earlier ones do not know.
    """

    name: str
    versions: Mapping[str, str]
    driver: str
    runtime: str
    pythons: tuple[int, int]
    announced_errors: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def python_range(self) -> str:
        """Such as "3.10 to 3.11"."""
        first, last = self.pythons
        return f"3.{first} to 3.{last}"


NATIVE_INT64 = "--native-int64"
LATE_FLAGS = (NATIVE_INT64,)
"""Flags of neuronx-cc that not every listed release knows."""
_INT64 = ("dot", "scatter", "collective", "pow")

SDK_RELEASES: dict[str, SdkRelease] = {
    release.name: release
    for release in (
        SdkRelease(  # [content], [host]: what optimum-neuron 0.4.5 pins
            name="2.26.1",
            versions={
                TORCH: "2.8.0",
                FRAMEWORK: "2.8.0.2.10.16998",
                DISTRIBUTED: "0.15.22404",
                COMPILER: "2.21.33363.0",
                BRIDGE: "2.2.12677.0",
            },
            driver="2.24.7.0",
            runtime="2.28.23.0",
            pythons=(10, 11),
        ),
        SdkRelease(  # [content]; the last release with NxD among its packages
            name="2.31",
            versions={
                TORCH: "2.9.1",
                FRAMEWORK: "2.9.0.2.15.32035",
                DISTRIBUTED: "0.19.28492",
                COMPILER: "2.26.6360.0",
                BRIDGE: "2.2.17544.0",
            },
            driver="2.29.0.0",
            runtime="2.33.10.0",
            pythons=(11, 12),
        ),
        SdkRelease(  # [content]; NxD is installed by pip beside it
            name="2.33",
            versions={
                TORCH: "2.9.1",
                FRAMEWORK: "2.9.0.2.15.32035",
                DISTRIBUTED: "0.19.28492",
                COMPILER: "2.28.7631.0",
                BRIDGE: "3.0.10135.0",
            },
            driver="2.31.7.0",
            runtime="2.35.30.0",
            pythons=(11, 13),
            announced_errors=_INT64,
            flags=(NATIVE_INT64,),
        ),
    )
}
"""By name, oldest first."""

DEFAULT_RELEASE = "2.26.1"
"""What the installed host, optimum-neuron 0.4.5, is made for."""


def release_of(versions: Mapping[str, str]) -> SdkRelease | None:
    """The release that an installed compiler is of, by major and minor version; None for one that is not listed."""
    installed = _minor(versions.get(COMPILER, ""))
    return next((each for each in SDK_RELEASES.values() if _minor(each.versions[COMPILER]) == installed), None)


def same_minor(one: str, other: str) -> bool:
    """Whether two versions agree in their first two numbers."""
    return _minor(one) == _minor(other)


def get_release(name: str) -> SdkRelease:
    """The release of a name; ValueError names the known ones."""
    if name not in SDK_RELEASES:
        raise ValueError(f"unknown SDK release {name!r}: known are {', '.join(SDK_RELEASES)}")
    return SDK_RELEASES[name]


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split("+")[0].split(".")[:2])

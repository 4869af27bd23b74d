"""Whether a folder of compiled artifacts is whole and is for this machine, asked before anything of it is loaded.

A list of checks, cheapest first; each returns what is wrong and what to do, or None.
"""

from pathlib import Path

from ..checkpoint.index import ModelIndex
from ..checkpoint.layout import INDEX, KINDS, SIGMA, Kind
from ..errors import ArtifactError, DeviceError, InvalidExportOption
from ..neuron.sdk import NeuronSdk
from .compiled import AGAIN
from .file_checks import FILE_CHECKS
from .folder_checks import CONTENT_CHECKS, FOLDER_CHECKS
from .machine_checks import MACHINE_CHECKS
from .manifest import Manifest
from .under_check import VERIFY, Artifact, Check


def check_verify(verify: str) -> None:
    """Refuse what is none of `VERIFY`: an InvalidExportOption names all."""
    if verify not in VERIFY:
        raise InvalidExportOption(f"verify={verify!r}: choose {', '.join(VERIFY)}")


def check_artifact(folder: Path, sdk: NeuronSdk, *, verify: str = "sizes") -> Manifest | None:
    """Refuse a folder that is not whole, or that this machine cannot run.

    A folder without a manifest, which the stock exporter makes, is checked as far as its configuration and the headers
    of its files tell.

    Args:
        verify: "sizes" holds size, header and a sample of every file against the manifest, in milliseconds; "full"
            reads every byte; "none" looks only which files are there, for a folder that was edited on purpose.

    Returns:
        its manifest, if it has one.

    Raises:
        InvalidExportOption: `verify` is none of these.
        ArtifactError: it is not whole, was changed, is of another export or for another machine; names the file or the
            value, and what to do.
        DeviceError: this machine has no NeuronCore, or a variable that its runtime cannot take.
    """
    check_verify(verify)
    artifact = Artifact(folder, sdk, verify, Manifest.read(folder))
    try:
        problem = _first_problem(artifact, (*FOLDER_CHECKS, *MACHINE_CHECKS, *FILE_CHECKS, *CONTENT_CHECKS))
    except DeviceError as error:
        raise DeviceError(f"{folder}: {error}") from None
    if problem:
        raise ArtifactError(f"{folder}: {problem}")
    return artifact.manifest


def check_kind(folder: Path, kind: Kind) -> None:
    """Refuse a folder of the other pipeline: an ArtifactError names the class that loads it."""
    found = kind_of(folder)
    if found != kind:
        raise ArtifactError(f"{folder} is {found.label}, not {kind.label}; load it with {found.neuron_class}")


def kind_of(folder: Path) -> Kind:
    """The pipeline that a folder holds, PixArt-Sigma where its index names neither; no index is an ArtifactError."""
    index = ModelIndex.read(folder / INDEX, ArtifactError, advice=AGAIN)
    return KINDS.get(index.class_name or "", SIGMA)


def machine_problem(folder: Path, sdk: NeuronSdk) -> str | None:
    """Why this machine cannot run the programs of a whole folder, and what to do; None if it can."""
    artifact = Artifact(folder, sdk, "none", Manifest.read(folder))
    try:
        return _first_problem(artifact, MACHINE_CHECKS)
    except DeviceError as error:
        return str(error)


def _first_problem(artifact: Artifact, checks: tuple[Check, ...]) -> str | None:
    return next((problem for check in checks if (problem := check(artifact))), None)

"""Whether this machine can run the programs of a folder."""

from importlib.metadata import PackageNotFoundError, version

from packaging.version import InvalidVersion, Version

from ..hardware import LNC_VARIABLES, get_instance
from .under_check import COMPILER, Artifact, Check


def _target(artifact: Artifact) -> str | None:
    wanted, machine = artifact.needs.target, artifact.machine
    if wanted is None:
        return None
    try:
        # inf2, trn1 and trn1n share an instruction set.
        fits = get_instance(wanted).platform_target == machine.instance.platform_target
    except ValueError:
        fits = False
    if fits:
        return None
    return (
        f"it is compiled for {wanted}, and this machine is {machine.name}; load it on {wanted}, or export it again"
        f" with --instance_type {machine.instance.family}"
    )


def _lnc(artifact: Artifact) -> str | None:
    wanted, machine = artifact.needs.lnc, artifact.machine
    if wanted in (None, machine.lnc):
        return None
    return (
        f"it is compiled for logical core config (LNC) {wanted}, and this process has {machine.lnc}; set"
        f" {LNC_VARIABLES[0]}={wanted} before the first load, or export it again"
    )


def _cores(artifact: Artifact) -> str | None:
    ranks, machine = artifact.needs.ranks, artifact.machine
    if ranks <= machine.cores:
        return None
    return (
        f"it needs {ranks} cores, and {machine.cores} are visible ({machine.cores_from}); make more visible before the"
        f" first load, or export it again with --tensor_parallel_size {max(machine.cores, 1)} or less"
    )


def _group(artifact: Artifact) -> str | None:
    """Cores that follow each other, but lie on more chips than they must, form no group where chips have groups."""
    ranks, machine = artifact.needs.ranks, artifact.machine
    per_chip = machine.instance.chip.physical_cores // machine.lnc
    if not machine.instance.chip.groups or machine.first_core % min(ranks, per_chip) == 0:
        return None
    return (
        f"its {ranks} cores cannot begin at core {machine.first_core} of {machine.name} ({machine.cores_from}), in the"
        f" middle of a chip of {per_chip}; begin at a multiple of {min(ranks, per_chip)} before the first load"
    )


def _emulator(artifact: Artifact) -> str | None:
    needs, emulated_here = artifact.needs, artifact.sdk.emulated
    if needs.emulated and not emulated_here:
        return "the emulator made it, and its programs run on no NeuronCore; export it again with the Neuron SDK"
    if emulated_here and needs.emulated is False:
        return (
            "it is compiled for NeuronCores, and the emulator cannot run such programs; load it on"
            f" {needs.target or 'an instance'} with the Neuron SDK, or export it again here"
        )
    return None


def _compiler(artifact: Artifact) -> str | None:
    try:
        here = version(COMPILER)
        newer = Version(artifact.needs.compiler or "0").release > Version(here).release
    except (PackageNotFoundError, InvalidVersion):
        return None
    if not newer:
        return None
    return (
        f"it is compiled with {COMPILER} {artifact.needs.compiler}, and {here} is installed; update the Neuron SDK,"
        " or export it again with the installed one"
    )


MACHINE_CHECKS: tuple[Check, ...] = (_target, _lnc, _cores, _group, _emulator, _compiler)

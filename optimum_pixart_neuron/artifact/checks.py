"""Whether a folder of compiled artifacts is whole and is for this machine, asked before anything of it is loaded.

A list of checks, cheapest first; each returns what is wrong and what to do, or None.
"""

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from packaging.version import InvalidVersion, Version
from tqdm import tqdm

from ..checkpoint.index import ModelIndex
from ..checkpoint.layout import INDEX
from ..components.common.copied import check_inside
from ..components.registry import COMPONENTS, DENOISER
from ..errors import ArtifactError, DeviceError, InvalidExportOption, printable
from ..files import FileRecord, full_digest, open_regular, safetensors_header, sample_digest
from ..hardware import LNC_VARIABLES, get_instance
from ..neuron.machine import Machine
from ..neuron.sdk import NeuronSdk
from .compiled import AGAIN, CONFIG_FILE, PROGRAM_FILE, SHARD_NAME, WEIGHTS_FOLDER, Compiled, shard_files
from .configurations import check_configuration, read_copied
from .expected_files import is_known, loadable
from .manifest import MANIFEST_FILE, Manifest

VERIFY = ("none", "sizes", "full")
"""What is held against the manifest: which files are there; also their sizes and samples; also every byte."""

_COMPILER = "neuronx-cc"
_PROGRAM, _WEIGHTS = Path(PROGRAM_FILE).suffix, ".safetensors"
_EMULATED = "emulated"  # local part of the version that the emulator gives its compiler


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the programs of a folder need of a machine; None where the folder does not say.

    Attributes:
        ranks: logical cores.
        target: neuronx-cc's `--target`.
        lnc: physical cores behind a logical one.
        compiler: version that made them.
        emulated: whether the emulator made them.
    """

    ranks: int
    target: str | None
    lnc: int | None
    compiler: str | None
    emulated: bool | None


@dataclass(frozen=True)
class Artifact:
    """A folder under check.

    Attributes:
        folder: as the user gave it.
        sdk: of this process.
        verify: one of `VERIFY`.
        manifest: None where there is none.
    """

    folder: Path
    sdk: NeuronSdk
    verify: str
    manifest: Manifest | None

    @cached_property
    def machine(self) -> Machine:
        """DeviceError where there is no NeuronCore; the first of the machine's checks reads it."""
        return Machine.of(self.sdk)

    @cached_property
    def compiled(self) -> dict[str, Compiled]:
        """What each compiled component says of itself, by folder; ArtifactError if one cannot be read."""
        there = [name for name in COMPONENTS if os.path.lexists(self.folder / name / CONFIG_FILE)]
        return {name: found for name in there if (found := Compiled.read(self.folder / name))}

    @cached_property
    def needs(self) -> Needs:
        """From the manifest; without one from the denoiser's configuration, by which the loaders go."""
        if self.manifest:
            return Needs(
                ranks=self.manifest.ranks,
                target=self.manifest.target,
                lnc=self.manifest.lnc,
                compiler=self.manifest.versions.get(_COMPILER),
                emulated=self.manifest.emulated,
            )
        denoiser = self.compiled[DENOISER.name]
        compiler = denoiser.compiler_version
        return Needs(
            ranks=denoiser.tensor_parallel_size,
            target=denoiser.compiled_for,
            lnc=denoiser.lnc,
            compiler=compiler,
            emulated=compiler.endswith(f"+{_EMULATED}") if compiler else None,
        )

    @cached_property
    def loadable(self) -> list[str]:
        """What a loader could take for a part of it, by path."""
        return loadable(self.folder)

    @property
    def binaries(self) -> list[str]:
        """Programs and weights that are there, by path."""
        return [name for name in self.loadable if name.endswith((_PROGRAM, _WEIGHTS))]

    def records(self, verify: str) -> dict[str, FileRecord]:
        """What the manifest lists, if files are to be verified to this extent or beyond."""
        if self.manifest is None or VERIFY.index(self.verify) < VERIFY.index(verify):
            return {}
        return self.manifest.files


Check = Callable[[Artifact], str | None]


def check_verify(verify: str) -> None:
    """Refuse what is none of `VERIFY`.

    Raises:
        InvalidExportOption: it is none; names all.
    """
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
        problem = _first_problem(artifact, (*_FOLDER_CHECKS, *_MACHINE_CHECKS, *_FILE_CHECKS))
    except DeviceError as error:
        raise DeviceError(f"{folder}: {error}") from None
    if problem:
        raise ArtifactError(f"{folder}: {problem}")
    return artifact.manifest


def machine_problem(folder: Path, sdk: NeuronSdk) -> str | None:
    """Why this machine cannot run the programs of a whole folder, and what to do; None if it can."""
    artifact = Artifact(folder, sdk, "none", Manifest.read(folder))
    try:
        return _first_problem(artifact, _MACHINE_CHECKS)
    except DeviceError as error:
        return str(error)


def _first_problem(artifact: Artifact, checks: tuple[Check, ...]) -> str | None:
    return next((problem for check in checks if (problem := check(artifact))), None)


def _is_an_export(artifact: Artifact) -> str | None:
    if not (artifact.folder / INDEX).is_file():
        return f"it holds no {INDEX}, so it is no whole pipeline; give the output folder of an export, or {AGAIN}"
    if artifact.manifest is None and not artifact.compiled:
        return (
            "nothing in it is compiled; compile it with `optimum-cli export neuron` or"
            " from_pretrained(..., export=True)"
        )
    return None


def _known(artifact: Artifact) -> str | None:
    """Nothing but known files is listed, and none leads out of the folder."""
    manifest = artifact.manifest
    unregistered = [name for name in manifest.components if name not in COMPONENTS] if manifest else []
    if unregistered:
        return (
            f"it has a component {printable(unregistered[0])} that is not registered here; register it before loading"
            " (optimum_pixart_neuron.register_component)"
        )
    unknown = [name for name in manifest.files if not is_known(name)] if manifest else []
    if unknown:
        return f"{MANIFEST_FILE} lists {printable(unknown[0])}, which no export has; do not use it"
    for name in (INDEX, MANIFEST_FILE, *artifact.loadable):
        try:
            check_inside(artifact.folder / name, artifact.folder)
        except ValueError as error:
            return f"{name}: {error}; {AGAIN}"
    return None


def _index(artifact: Artifact) -> str | None:
    others = ModelIndex.read(artifact.folder / INDEX, ArtifactError, advice=AGAIN).others
    if not others:
        return None
    return f"{INDEX} names {', '.join(others[:3])}, which PixArt-Sigma does not have; do not use it"


def _components(artifact: Artifact) -> str | None:
    if artifact.manifest:
        wanted = dict.fromkeys(PurePosixPath(name).parts[0] for name in artifact.manifest.files if "/" in name)
        missing = [name for name in wanted if not (artifact.folder / name).is_dir()]
    else:
        required = [component.name for component in COMPONENTS.values() if component.required]
        missing = [name for name in required if name not in artifact.compiled]
    return f"{missing[0]}/ is missing, or nothing in it is compiled; {AGAIN}" if missing else None


def _ranks(artifact: Artifact) -> str | None:
    """The loaders go by the ranks in the configurations, everybody else by those in the manifest."""
    wanted = artifact.needs.ranks
    for name, compiled in artifact.compiled.items() if artifact.manifest else ():
        for number in (compiled.tensor_parallel_size, compiled.ranks):
            if number not in (1, wanted):
                return f"{name}/{CONFIG_FILE} is for {number} ranks, and the export has {wanted}; {AGAIN}"
    return None


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
        here = version(_COMPILER)
        newer = Version(artifact.needs.compiler or "0").release > Version(here).release
    except (PackageNotFoundError, InvalidVersion):
        return None
    if not newer:
        return None
    return (
        f"it is compiled with {_COMPILER} {artifact.needs.compiler}, and {here} is installed; update the Neuron SDK,"
        " or export it again with the installed one"
    )


def _files(artifact: Artifact) -> str | None:
    """What the manifest lists, and what loaders open, whatever it lists."""
    listed = artifact.manifest.files if artifact.manifest else ()
    wanted = [*listed, *(f"{name}/{PROGRAM_FILE}" for name in artifact.compiled), *_own_shards(artifact)]
    missing = [name for name in dict.fromkeys(wanted) if not (artifact.folder / name).is_file()]
    return f"{_name_first(missing)} missing; {AGAIN}" if missing else None


def _strangers(artifact: Artifact) -> str | None:
    """What is of another export, or of a pipeline of another kind: a loader would take it for its own."""
    if artifact.manifest:
        own = artifact.manifest.files.keys()
    else:
        shards = _own_shards(artifact)
        known = [name for name in artifact.loadable if is_known(name)]
        own = [name for name in known if name in shards or not name.endswith(_WEIGHTS)]
    foreign = [name for name in artifact.loadable if name not in own]
    if not foreign:
        return None
    return (
        f"{_name_first(foreign)} no part of this export, which has {artifact.needs.ranks} rank(s); remove what is of"
        " another export, or export again into a new folder"
    )


def _configurations(artifact: Artifact) -> str | None:
    for name in artifact.compiled:
        check_configuration(artifact.folder / name, COMPONENTS[name])
    return None


def _copied(artifact: Artifact) -> str | None:
    """What is loaded beside programs is of known classes."""
    read_copied(artifact.folder)
    return None


def _own_shards(artifact: Artifact) -> list[str]:
    """Shards that the loaders read: one a rank in every component that has any."""
    components = [name for name in artifact.compiled if (artifact.folder / name / WEIGHTS_FOLDER).is_dir()]
    ranks = artifact.needs.ranks
    return [path.as_posix() for name in components for path in shard_files(Path(name), ranks)]


def _sizes(artifact: Artifact) -> str | None:
    for name, record in artifact.records("sizes").items():
        path = artifact.folder / name
        size = path.stat().st_size
        if size < record.size and not _is_whole(path):
            return f"{name} is truncated: {size} of {record.size} bytes; {AGAIN}"
        if size != record.size:
            return f"{name} has {size} bytes, expected {record.size}: {_origin(artifact, name)}"
    return None


def _headers(artifact: Artifact) -> str | None:
    """The files themselves tell how long they should be; a right digest does not say that a loader can read them."""
    if artifact.verify == "none":
        return None
    cut = [name for name in artifact.binaries if not _is_whole(artifact.folder / name)]
    return f"{_name_first(cut)} truncated or damaged; {AGAIN}" if cut else None


def _samples(artifact: Artifact) -> str | None:
    for name, record in artifact.records("sizes").items():
        if sample_digest(artifact.folder / name) != record.sample:
            return f"{name} has another content than was exported: {_origin(artifact, name)}"
    return None


def _digests(artifact: Artifact) -> str | None:
    if artifact.verify == "full" and artifact.manifest is None:
        return f"it has no {MANIFEST_FILE} to verify it against; leave out verify='full', or export it again"
    records = artifact.records("full")
    total = sum(record.size for record in records.values())
    silent = None if records else True  # None: silent where stderr is no terminal
    with tqdm(desc="verifying", total=total, unit="B", unit_scale=True, leave=False, disable=silent) as progress:
        for name, record in records.items():
            if full_digest(artifact.folder / name, progress.update) != record.sha256:
                return f"{name} is damaged: its SHA-256 is not the manifest's; {AGAIN}"
    return None


def _origin(artifact: Artifact, name: str) -> str:
    """Where the content of a file that is not its own may come from, and what to do."""
    path = artifact.folder / name
    size, sample = path.stat().st_size, sample_digest(path)
    for other, record in artifact.manifest.files.items():
        if (record.size, record.sample) == (size, sample):
            rank = SHARD_NAME.fullmatch(PurePosixPath(other).name)
            held = f"the weights of rank {rank[1]}, {other}" if rank else other
            return f"it is a copy of {held}; {AGAIN}"
    if path.suffix in (_PROGRAM, _WEIGHTS):
        return f"it is of another export, or damaged; {AGAIN}"
    return f"it was changed, or is of another export; {AGAIN}, or load with verify='none' to keep the change"


def _is_whole(path: Path) -> bool:
    """Whether a file of weights or a program ends where its own header says; other files cannot tell."""
    if path.suffix == _PROGRAM:
        return zipfile.is_zipfile(path)  # TorchScript archives are; their directory is at the end
    if path.suffix == _WEIGHTS:
        try:
            with open_regular(path) as file:
                safetensors_header(file)
        except (OSError, ValueError):
            return False
    return True


def _name_first(names: list[str]) -> str:
    """The first of some names and the number of others, with the verb."""
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{names[0]} and {len(names) - 1} more are"


_FOLDER_CHECKS: tuple[Check, ...] = (_is_an_export, _known, _index, _components, _ranks)
_MACHINE_CHECKS: tuple[Check, ...] = (_target, _lnc, _cores, _group, _emulator, _compiler)
_FILE_CHECKS: tuple[Check, ...] = (
    *(_files, _strangers, _sizes, _samples, _digests, _headers),
    *(_configurations, _copied),
)

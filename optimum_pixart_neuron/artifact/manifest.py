"""The manifest of an artifact folder: what it was made from, what it is for, and every file in it.

It lies beside `model_index.json` and no loader of optimum-neuron reads it. Folders without one, which the stock
exporter makes, are loaded unchecked.
"""

import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from math import isfinite, isnan
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from ..errors import ArtifactError, printable
from ..files import RECORDS_BYTES, FileRecord, first_problem, read_json, write_whole
from .compiled import AGAIN, Count

MANIFEST_FILE = "neuron_manifest.json"
SCHEMA_VERSION: Final = 1
EXAMPLE_FILE = "example.png"
"""Drawn by the export, for its model card."""
NOT_LISTED = (MANIFEST_FILE, "README.md", ".gitattributes", EXAMPLE_FILE)
"""Files of the folder that the manifest does not list: itself, and what the Hub and its users edit."""

_LOCAL_STARTS = ("/", ".", "~")  # of a path, which no id of the Hub has
_DOWNLOAD_STATE = ".cache/huggingface/"  # which `hf download --local-dir` leaves beside what it brought

_PACKAGES = (
    "optimum-pixart-neuron",
    "optimum-neuron",
    "optimum",
    "diffusers",
    "transformers",
    "torch",
    "torch-neuronx",
    "neuronx-cc",
    "neuronx-distributed",
)


_Text = Annotated[str, Field(max_length=4096)]
_Size = Annotated[int, Field(ge=0, lt=1 << 31)]


def _as_json(number: float) -> float | str:
    """As null, infinity could not be read back."""
    if isfinite(number):
        return number
    return "NaN" if isnan(number) else "Infinity" if number > 0 else "-Infinity"


_Number = Annotated[float, PlainSerializer(_as_json, when_used="json")]


class _Record(BaseModel):
    """A part of the manifest.

    Class attributes:
        LATER: fields that earlier releases did not write; where they say nothing they are left out, since the digests
            that those manifests have of themselves would not hold otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written = write(self)
        for name in self.LATER:
            if not getattr(self, name):
                written.pop(name, None)
        return written


class TensorRecord(_Record):
    """One input or output of a compiled program.

    Attributes:
        name: as the program's caller knows it.
        shape: as compiled; every dimension is static.
        dtype: such as "float32".
    """

    name: _Text
    shape: Annotated[tuple[_Size, ...], Field(max_length=8)]
    dtype: _Text


class AdapterRecord(_Record):
    """An adapter that was merged into the weights.

    Attributes:
        name: its user's.
        model: Hub id, or folder as the user gave it.
        revision: commit on the Hub; None for a folder.
        file: of its tensors, by path in the repository or folder.
        content: of that file.
        scale: its user's factor.
        number: its place among all adapters of the export, in which they were merged.
    """

    name: _Text
    model: _Text
    revision: _Text | None
    file: _Text
    content: FileRecord
    scale: Annotated[float, Field(allow_inf_nan=False)]
    number: _Size


class SourceRecord(_Record):
    """Where one component came from.

    Attributes:
        model: Hub id, or folder as the user gave it.
        revision: commit on the Hub; None for a folder.
        files: each file that was read, weights or what was copied, by its path in the component's folder.
        adapters: that were merged into the weights, in this order.
    """

    LATER = ("adapters",)

    model: _Text
    revision: _Text | None
    files: dict[_Text, FileRecord]
    adapters: tuple[AdapterRecord, ...] = ()


class ProgramRecord(_Record):
    """One of several programs of a component, which run on the same weights.

    Attributes:
        name: of the size in pixels, as in "768x1344"; "-one-half" behind it for one without the guidance pair.
        file: where it lies in the component's folder; one file may hold several.
        inputs: in call order.
        outputs: in order.
    """

    name: _Text
    file: _Text
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]


class ComponentRecord(_Record):
    """One compiled component.

    Attributes:
        ranks: that run its program together.
        mode: how they share it: "context" or "tensor"; "data" for copies on every core, None where there is one core.
        inputs: in call order; of the first program.
        outputs: in order; likewise.
        programs: all of them, the first one first; empty where there is one.
        source: of its weights.
        inputs_digest: of everything that the compilation depended on; equal digests mean an equal component.
        attention: the kernel that computes it, "math" where it is written out; None where there is no choice.
    """

    LATER = ("programs", "attention")

    ranks: Count
    mode: _Text | None = None
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    programs: Annotated[tuple[ProgramRecord, ...], Field(max_length=256)] = ()
    source: SourceRecord
    inputs_digest: _Text
    attention: _Text | None = None


class StepRecord(_Record):
    """One step of a whole schedule, from the original's latents.

    Attributes:
        timestep: of the step.
        max_error: largest absolute difference from the original's prediction.
        allowed: the largest that passes.
        passed: the verdict, of this error and of the cosine.
    """

    timestep: _Number
    max_error: _Number
    allowed: _Number
    passed: bool


class ValidationRecord(_Record):
    """The comparison of one program of a component with its original in float32.

    Attributes:
        component: its folder.
        program: its name among several of the component; None where there is one.
        max_error: largest absolute difference.
        cosine: of an output row and its original, the least of all rows.
        psnr: in dB, of the range of the original, the least of all rows; infinite where nothing differs.
        limit: what was allowed, and why, in words.
        passed: the verdict.
        ranks_differ: in what its ranks disagree, which are promised to return the same; None where they do not.
        steps: of a whole schedule; none unless they were asked for.
    """

    LATER = ("program", "ranks_differ", "steps")

    component: _Text
    program: _Text | None = None
    max_error: _Number
    cosine: _Number
    psnr: _Number
    limit: _Text
    passed: bool
    ranks_differ: _Text | None = None
    steps: tuple[StepRecord, ...] = ()

    @property
    def misses(self) -> str:
        """What is wrong with it, in words; empty where it passed."""
        late = [number for number, step in enumerate(self.steps, start=1) if not step.passed]
        wrong = [f"{self.label}: {self.ranks_differ}"] if self.ranks_differ else []
        if late:
            step = self.steps[late[0] - 1]
            wrong.append(
                f"{self.label} is off by {step.max_error:.3g} at step {late[0]} of {len(self.steps)}, timestep"
                f" {step.timestep:g} ({step.allowed:.2g} is allowed)"
            )
        if not self.passed and not wrong:
            wrong.append(f"{self.label} is off by {self.max_error:.3g} ({self.limit})")
        return "; ".join(wrong)

    @property
    def label(self) -> str:
        """For tables and messages."""
        return self.component if self.program is None else f"{self.component} {self.program}"


class Manifest(_Record):
    """Everything a folder of compiled artifacts says of itself.

    Attributes:
        schema_version: of this file.
        model: checkpoint as the user named it.
        revision: its commit on the Hub; None for a folder.
        instance: full name it was compiled for, such as "trn2.48xlarge".
        target: neuronx-cc's `--target`.
        lnc: physical cores behind a logical one.
        ranks: logical cores that the pipeline needs.
        parallel_mode: "context", "tensor" or "data"; None on one core.
        emulated: whether the emulator stood in for the SDK; such artifacts run on no Neuron device.
        options: of the export, as the command's flags name them.
        versions: of compiler and packages, by distribution name.
        components: by folder.
        copied: sources of what is no program and was copied as it was, by folder: tokenizer and scheduler.
        validation: after the export; empty if it was left out.
        files: every file but the ones in `NOT_LISTED`, by path with forward slashes.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model: _Text
    revision: _Text | None
    instance: _Text
    target: _Text
    lnc: Count
    ranks: Count
    parallel_mode: _Text | None
    emulated: bool
    options: dict[_Text, Any]
    versions: dict[_Text, _Text]
    components: dict[_Text, ComponentRecord]
    copied: dict[_Text, SourceRecord] = {}
    validation: tuple[ValidationRecord, ...] = ()
    files: dict[_Text, FileRecord]

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """The manifest of a folder; None where there is none.

        Raises:
            ArtifactError: it cannot be read, or a newer version of this package wrote it.
        """
        path = folder / MANIFEST_FILE
        if not os.path.lexists(path):
            return None
        content = read_json(path, ArtifactError, advice=AGAIN, most=RECORDS_BYTES)
        if content.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise ArtifactError(
                f"{path} has schema version {printable(content['schema_version'])}, this package reads"
                f" {SCHEMA_VERSION}; update optimum-pixart-neuron"
            )
        try:
            written = _Written.model_validate(content)
        except ValidationError as error:
            raise ArtifactError(f"{first_problem(path, error)}; {AGAIN}") from None
        manifest = cls(**{name: getattr(written, name) for name in cls.model_fields})
        if written.sha256 not in (None, manifest._digest()):
            raise ArtifactError(f"{path} is damaged: it has another SHA-256 than it says; {AGAIN}")
        return manifest

    @property
    def adapters(self) -> tuple[AdapterRecord, ...]:
        """Those that were merged into any component, in their order."""
        merged = (each for component in self.components.values() for each in component.source.adapters)
        return tuple(each for _, each in sorted({each.number: each for each in merged}.items()))

    @classmethod
    def require(cls, folder: Path) -> "Manifest":
        """As `read`, of a folder that has one.

        Raises:
            ArtifactError: it has none, or see `read`.
        """
        manifest = cls.read(folder)
        if manifest is None:
            raise ArtifactError(f"{folder} is no export of this package: it has no {MANIFEST_FILE}")
        return manifest

    @property
    def guided(self) -> bool:
        """Whether guidance is computed at all: not in an export for one half of the pair."""
        return not self.options.get("no_guidance") and self.options.get("guidance") != "off"

    def with_changes(self, changed: Mapping[str, bytes]) -> "Manifest":
        """The manifest of the same folder with other content in some of its files, by path."""
        records = {name: FileRecord.of_content(content) for name, content in changed.items()}
        return self.model_copy(update={"files": {**self.files, **records}})

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder, whole or not at all."""
        write_whole(folder / MANIFEST_FILE, self.to_json())

    def to_json(self) -> bytes:
        """What its file holds."""
        written = _Written(**{name: getattr(self, name) for name in Manifest.model_fields}, sha256=self._digest())
        return f"{written.model_dump_json(indent=2)}\n".encode()

    def for_others(self) -> "Manifest":
        """The same without the ways to folders of this machine, of which only the last name is left."""
        sources = [*(component.source for component in self.components.values()), *self.copied.values()]
        local = {source.model for source in sources if source.revision is None}

        def public(value: Any) -> Any:
            is_local = isinstance(value, str) and (value in local or value.startswith(_LOCAL_STARTS))
            return own_name(value) if is_local else value

        def of(source: SourceRecord) -> SourceRecord:
            adapters = tuple(
                each.model_copy(update={"model": own_name(each.model)} if each.revision is None else {})
                for each in source.adapters
            )
            model = own_name(source.model) if source.revision is None else source.model
            return source.model_copy(update={"model": model, "adapters": adapters})

        components = {
            name: each.model_copy(update={"source": of(each.source)}) for name, each in self.components.items()
        }
        return self.model_copy(
            update={
                "model": own_name(self.model) if self.revision is None else self.model,
                "options": {name: public(value) for name, value in self.options.items()},
                "components": components,
                "copied": {name: of(source) for name, source in self.copied.items()},
            }
        )

    def _digest(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class _Written(Manifest):
    """A manifest as its file has it, with the SHA-256 of everything else in it: no other file vouches for this one."""

    sha256: str | None = None


def own_name(folder: str) -> str:
    """The last part of a path."""
    return folder.rstrip("/").split("/")[-1]


def listed_files(folder: Path) -> list[str]:
    """Every file of a folder that a manifest has to list, by path with forward slashes, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if name not in NOT_LISTED and not name.startswith(_DOWNLOAD_STATE))


def strangers(folder: Path, manifest: Manifest) -> list[str]:
    """Whatever lies in a folder and is no part of the export that its manifest lists; links are not followed."""
    known, found = {*manifest.files, *NOT_LISTED}, []
    for above, folders, files in os.walk(folder):
        paths = [Path(above, name) for name in (*(name for name in folders if Path(above, name).is_symlink()), *files)]
        found += [path.relative_to(folder).as_posix() for path in paths]
    return sorted(name for name in found if name not in known and not name.startswith(_DOWNLOAD_STATE))


def installed_versions() -> dict[str, str]:
    """Versions of the compiler and of every package that an artifact depends on, as installed here."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

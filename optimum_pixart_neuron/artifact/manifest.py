"""The manifest of an artifact folder: what it was made from, what it is for, and every file in it.

It lies beside `model_index.json` and no loader of optimum-neuron reads it. Folders without one, which the stock
exporter makes, are loaded unchecked.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from ..checkpoint.few_steps import CallDefaults
from ..checkpoint.layout import KINDS, SIGMA, Kind
from ..errors import ArtifactError, printable
from ..files import RECORDS_BYTES, FileRecord, read_json, typed, write_whole
from ..neuron.sdk import versions_of
from .compiled import AGAIN, Count
from .manifest_records import AdapterRecord, ComponentRecord, Record, SourceRecord, Text, ValidationRecord

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


class Manifest(Record):
    """Everything a folder of compiled artifacts says of itself.

    Attributes:
        schema_version: of this file.
        pipeline: of diffusers, that it is; None in manifests from before PixArt-Alpha was exported: PixArt-Sigma.
        model: checkpoint as the user named it.
        revision: its commit on the Hub; None for a folder.
        instance: full name it was compiled for, such as "trn2.48xlarge".
        target: neuronx-cc's `--target`.
        lnc: physical cores behind a logical one.
        ranks: logical cores that the pipeline needs.
        parallel_mode: name of a mode of `parallel.modes`; None on one core.
        emulated: whether the emulator stood in for the SDK; such artifacts run on no Neuron device.
        options: of the export, as the command's flags name them.
        versions: of compiler and packages, by distribution name.
        components: by folder.
        copied: sources of what is no program and was copied as it was, by folder: tokenizer and scheduler.
        validation: after the export; empty if it was left out.
        call: what a call does where its arguments do not say; None for diffusers' own defaults.
        files: every file but the ones in `NOT_LISTED`, by path with forward slashes.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    pipeline: Literal["PixArtSigmaPipeline", "PixArtAlphaPipeline"] | None = None
    model: Text
    revision: Text | None
    instance: Text
    target: Text
    lnc: Count
    ranks: Count
    parallel_mode: Text | None
    emulated: bool
    options: dict[Text, Any]
    versions: dict[Text, Text]
    components: dict[Text, ComponentRecord]
    copied: dict[Text, SourceRecord] = {}
    validation: tuple[ValidationRecord, ...] = ()
    call: CallDefaults | None = None
    files: dict[Text, FileRecord]

    LATER = ("call", "pipeline")

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
        written = typed(content, _Written, path, ArtifactError, advice=AGAIN)
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
        """As `read`, of a folder that has one: to have none is an ArtifactError."""
        manifest = cls.read(folder)
        if manifest is None:
            raise ArtifactError(f"{folder} is no export of this package: it has no {MANIFEST_FILE}")
        return manifest

    @property
    def kind(self) -> Kind:
        """Of pipeline, which says what class loads it."""
        return KINDS[self.pipeline] if self.pipeline else SIGMA

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
            return _public(source).model_copy(update={"adapters": tuple(map(_public, source.adapters))})

        components = {
            name: each.model_copy(update={"source": of(each.source)}) for name, each in self.components.items()
        }
        return _public(self).model_copy(
            update={
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


_FromAPlace = TypeVar("_FromAPlace", Manifest, SourceRecord, AdapterRecord)


def _public(record: _FromAPlace) -> _FromAPlace:
    """The same with the last name alone of a folder of this machine."""
    return record if record.revision is not None else record.model_copy(update={"model": own_name(record.model)})


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
    return versions_of(_PACKAGES)

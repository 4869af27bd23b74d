"""A folder of compiled artifacts under check: what its manifest, its configurations and this machine say."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..components.registry import COMPONENTS, DENOISER
from ..files import FileRecord
from ..neuron.machine import Machine
from ..neuron.sdk import NeuronSdk
from .compiled import CONFIG_FILE, PROGRAM_FILE, Compiled
from .expected_files import loadable
from .manifest import Manifest

VERIFY = ("none", "sizes", "full")
"""What is held against the manifest: which files are there; also their sizes and samples; also every byte."""

COMPILER = "neuronx-cc"
PROGRAM, WEIGHTS = Path(PROGRAM_FILE).suffix, ".safetensors"
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
                compiler=self.manifest.versions.get(COMPILER),
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
        return [name for name in self.loadable if name.endswith((PROGRAM, WEIGHTS))]

    def records(self, verify: str) -> dict[str, FileRecord]:
        """What the manifest lists, if files are to be verified to this extent or beyond."""
        if self.manifest is None or VERIFY.index(self.verify) < VERIFY.index(verify):
            return {}
        return self.manifest.files


Check = Callable[[Artifact], str | None]
"""Returns what is wrong and what to do, or None."""

"""The compiled programs of a folder: what they were compiled for, and running them."""

import gc
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..artifact.compiled import AGAIN, CONFIG_FILE, PROGRAM_FILE, Compiled
from ..checkpoint.checkpoint import PixArtCheckpoint
from ..components.component import Component, first_output
from ..components.registry import COMPONENTS
from ..errors import ArtifactError, CheckpointError, DeviceError
from ..files import read_json
from ..hardware import get_instance
from ..neuron.troubles import device_reason
from .ranks import RankComparison

# Keys of a `config.json` that say nothing of the model, or that the export writes anew.
_NOT_COMPARED = ("neuron", "dtype", "torch_dtype", "model_type", "transformers_version")


@dataclass(frozen=True, kw_only=True)
class CompiledComponent:
    """One compiled program of a component.

    Attributes:
        component: which one.
        folder: with the program and its `config.json`.
        config: that file's content.
        compiled: what its `neuron` section says of this program.
    """

    component: Component
    folder: Path
    config: dict
    compiled: Compiled

    @property
    def name(self) -> str:
        """Its folder in the export."""
        return self.component.name

    @property
    def program_name(self) -> str | None:
        """Among several of the component."""
        return self.compiled.program.name if self.compiled.program else None

    def check_original(self, checkpoint: PixArtCheckpoint) -> None:
        """Refuse a checkpoint of another geometry.

        Raises:
            CheckpointError: names the component, the first key of `config.json` that differs, and both values.
        """
        original = checkpoint.config(self.component.part.name)
        for key, value in original.items():
            if key.startswith("_") or key in _NOT_COMPARED or self.config.get(key) == value:
                continue
            raise CheckpointError(
                f"{self.name} was compiled with {key} {self.config.get(key)}, {checkpoint.source} has {value}; "
                "--model must name the checkpoint that was exported"
            )

    def run(self, inputs: dict[str, Tensor]) -> tuple[Tensor, str | None]:
        """Load the program onto its cores, run it on all rows, and release it.

        Args:
            inputs: of `Original.samples`, by name; what the program makes by itself is left out.

        Returns:
            the output (rows, ...) float32, and in what the ranks disagree: None where they return the same.

        Raises:
            DeviceError: it cannot be loaded here, or fails while it runs.
        """
        from ..artifact.loading import load_program  # imports the host's loader, which asks for the SDK

        try:
            program = load_program(self.folder, cores=1)[self.compiled.files[0]][0]
            ranked = RankComparison(program, self.component, self.compiled.ranks)
            taken = [inputs[given.name] for given in self.component.inputs]
            chunks = zip(*(tensor.split(self.compiled.batch) for tensor in taken))
            with torch.no_grad():
                output = torch.cat([first_output(ranked(*chunk)) for chunk in chunks]).float()
            return output, ranked.disagreement
        except RuntimeError as error:
            raise DeviceError(f"{self.name} cannot be run: {device_reason(error)}") from error
        finally:
            program, ranked = None, None  # type: ignore[assignment]  # they end here
            gc.collect()  # the cores and their memory belong to the program until it is collected


def open_compiled(folder: Path) -> list[CompiledComponent]:
    """All compiled programs of an export, those of a component one after the other.

    Raises:
        ArtifactError: the folder is none, lacks a component, or another exporter wrote it.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder; give the output of optimum-cli export neuron")
    found = []
    for name, component in COMPONENTS.items():
        program, config = folder / name / PROGRAM_FILE, folder / name / CONFIG_FILE
        if not component.required and not program.exists():
            continue
        _check_there(folder, (program, config))
        content = read_json(config, ArtifactError, advice=AGAIN)
        compiled = Compiled.of(content, config)
        if compiled is None or not compiled.is_ours:
            raise ArtifactError(f"{config} was not written by this package; its programs cannot be validated")
        _check_there(folder, [folder / name / file for file in compiled.files])
        found += [
            CompiledComponent(component=component, folder=folder / name, config=content, compiled=each)
            for each in compiled.each()
        ]
    _check_instance(folder, found[0].compiled.instance_type)
    return found


def _check_there(folder: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {folder} is not a whole compiled PixArt")


def _check_instance(folder: Path, name: str | None) -> None:
    """The emulator becomes the instance that the programs are for."""
    try:
        get_instance(name or "")
    except ValueError as error:
        raise ArtifactError(f"{folder} is compiled for an {error}; update this package, or export again") from None

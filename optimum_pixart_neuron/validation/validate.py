"""Compare every compiled component of a folder with its original, in this process or in one of its own."""

import pickle
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..artifact.checks import machine_problem
from ..artifact.manifest import ValidationRecord
from ..checkpoint.checkpoint import PixArtCheckpoint
from ..errors import PixArtNeuronError
from ..neuron.compiler import environment_variables
from ..neuron.process import run_module
from ..neuron.sdk import ensure_sdk
from . import inputs
from .compare import Difference, judge
from .compiled import CompiledComponent, cores_needed, open_compiled
from .originals import ORIGINALS
from .table import print_table

REQUEST, OUTCOME = "request", "outcome"
"""Names of the files through which the process is asked and answers."""

_CHILD = "optimum_pixart_neuron.commands.validation_child"
_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = (128 + signal.SIGTERM, 128 + signal.SIGHUP)


def validate_artifacts(
    folder: Path, checkpoint: PixArtCheckpoint, *, atol: float | None
) -> tuple[ValidationRecord, ...]:
    """Compare every compiled component with its original, in a process of its own, and print the table.

    The Neuron runtime reads the number of cores once a process and keeps them until its end. The caller has compiled,
    for which the SDK may hold cores, and goes on: with an export for other cores, or by loading the pipeline.

    Args:
        folder: with the compiled components and the tokenizer; index and manifest need not be there yet.
        checkpoint: that they were compiled from, with its weights.
        atol: largest absolute difference that passes, as optimum-neuron's flag; None for limits of our own.

    Returns:
        a record for each component, passed or not; none where this machine cannot run the programs, with a line that
        says why.

    Raises:
        PixArtNeuronError: the comparison could not be made.
    """
    sdk = ensure_sdk()
    problem = None if sdk.emulated else machine_problem(folder, sdk)
    if problem:
        print(f"validation is left out: {problem}", flush=True)
        return ()
    with tempfile.TemporaryDirectory(prefix="pixart-neuron-validation-") as holder:
        (Path(holder) / REQUEST).write_bytes(pickle.dumps((folder.absolute(), checkpoint, atol)))
        status = run_module(_CHILD, "validation", [holder])
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        if status in _TERMINATED:
            raise SystemExit(status)
        if status != 0:
            raise PixArtNeuronError(
                f"the validation ended with status {status} before its verdict; --disable-validation leaves it out"
            )
        outcome = pickle.loads((Path(holder) / OUTCOME).read_bytes())
    if isinstance(outcome, PixArtNeuronError):
        raise outcome
    return outcome


def validate_here(folder: Path, checkpoint: PixArtCheckpoint, *, atol: float | None) -> tuple[ValidationRecord, ...]:
    """As `validate_artifacts`, in this process, whose Neuron runtime must not have started yet.

    Components come one after the other, and of each the original before the program: memory holds one of them.

    Raises:
        ArtifactError: the folder holds no compiled PixArt-Sigma of this package.
        CheckpointError: the checkpoint has another geometry, or lacks a weight.
        DeviceError: a program cannot be loaded or run.
    """
    components = open_compiled(folder)
    for component in components:
        component.check_original(checkpoint)
    sdk = ensure_sdk(components[0].neuron["instance_type"])
    place = f"the emulator of {sdk.instance}" if sdk.emulated else sdk.instance
    print(f"validation on {place} against {checkpoint.source}", flush=True)
    comparison = _Comparison(folder=folder, checkpoint=checkpoint, atol=atol)
    # As optimum-neuron 0.4.5 `NeuronDiffusionPipelineBase.set_neuron_visible_cores`.
    with environment_variables({"NEURON_RT_NUM_CORES": str(cores_needed(components))}):
        for number, component in enumerate(components, start=1):
            started = time.monotonic()
            print(f"[{number}/{len(components)}] {component.name}: comparing", flush=True)
            comparison.add(component)
            print(f"    done in {time.monotonic() - started:.1f} s", flush=True)
    print_table(comparison.records)
    return tuple(comparison.records)


@dataclass
class _Comparison:
    """The comparison of one folder, a component at a time; the transformer needs what the text encoder's gave."""

    folder: Path
    checkpoint: PixArtCheckpoint
    atol: float | None
    records: list[ValidationRecord] = field(default_factory=list)
    text: dict[str, Tensor] = field(default_factory=dict)
    embeddings: Tensor | None = None

    def add(self, component: CompiledComponent) -> None:
        given, original = self._inputs(component), ORIGINALS[component.name]
        expected = original.run(self.checkpoint, given)
        counted = None
        if component.name == "text_encoder":
            self.text, self.embeddings = given, expected
            counted = given["attention_mask"]  # the transformer masks what stands on padding
        yardstick = None
        if self.atol is None:
            rounded = original.run(self.checkpoint, given, torch.bfloat16)
            yardstick = Difference.between(rounded, expected, counted)
        found = Difference.between(component.run(given), expected, counted)
        self.records.append(judge(component.name, found, component.precision, yardstick, self.atol))

    def _inputs(self, component: CompiledComponent) -> dict[str, Tensor]:
        """By the names of the originals' arguments."""
        batch = component.batch
        if component.name == "text_encoder":
            return inputs.text_inputs(self.folder / "tokenizer", batch, component.neuron["static_sequence_length"])
        shape = component.image_shape
        if component.name == "transformer":
            return inputs.transformer_inputs(self.text, self.embeddings, batch, shape)
        if component.name == "vae_decoder":
            scaling = component.config.get("scaling_factor", 0.18215)  # the default of AutoencoderKL
            return inputs.decoder_inputs(batch, shape, scaling)
        return inputs.encoder_inputs(batch, shape)

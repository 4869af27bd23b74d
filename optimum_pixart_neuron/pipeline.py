"""The pipeline that users call: optimum-neuron's, without its limits.

The denoising loop is diffusers' own. What the compiled programs cannot take as it comes is adapted at their border:
any number of rows (`batching.py`), and sizes that the checkpoint's resolution bins map to the compiled one.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from diffusers import PixArtSigmaPipeline
from diffusers.image_processor import PixArtImageProcessor
from optimum.neuron import NeuronPixArtSigmaPipeline as HostPipeline

from .batching import BatchedProgram, ProgramInput
from .errors import DeviceError, InvalidExportOption, PixArtNeuronError, ProgramInputError
from .export.components import REGISTERED
from .export.exporter import export as export_checkpoint
from .export.options import ExportOptions
from .export.settings import resolution_bins
from .hardware import get_instance
from .loading import load_program, neuron_section
from .sdk import ensure_sdk
from .tiling import TiledDecoder

_CONFIG_CLASSES = {model_type: config_class for (model_type, _), config_class in REGISTERED.items()}


class NeuronPixArtSigmaPipeline(HostPipeline):
    """PixArt-Sigma on NeuronCores, called like `diffusers.PixArtSigmaPipeline`.

    Loads the folders that this package and `optimum-cli export neuron` write; the stock
    `optimum.neuron.NeuronPixArtSigmaPipeline` loads them too. Beyond the stock class it takes any number of prompts
    and images, guidance on or off, and requested sizes that are not compiled but binned to what is.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for part in (self.text_encoder, self.transformer, self.vae_decoder, self.vae_encoder):
            if part is not None and "parallel" in part.config.neuron:
                part.model = _batched(part.model, part.config.neuron, part.neuron_config)
        if self._decodes_in_tiles():
            self.vae_decoder.model = TiledDecoder(self.vae_decoder.model, self._vae_tile(), self.vae_scale_factor)

    def _vae_tile(self) -> tuple[int, int]:
        neuron = self.vae_decoder.config.neuron
        return neuron["static_height"], neuron["static_width"]

    def _decodes_in_tiles(self) -> bool:
        neuron = self.transformer.config.neuron
        return self._vae_tile() != (neuron["static_height"], neuron["static_width"])

    @staticmethod
    def load_model(data_parallel_mode: str, tensor_parallel_size: int, **kwargs: Any) -> dict[str, Any]:
        """Load the programs; those of one core are copied to every core that the pipeline has.

        Folders without our `parallel` section are loaded as the host does.
        """
        programs = {
            name.removesuffix("_path"): path
            for name, path in kwargs.items()
            if isinstance(path, Path) and path.is_file()
        }
        if "parallel" not in neuron_section(programs["transformer"]):
            return HostPipeline.load_model(data_parallel_mode, tensor_parallel_size, **kwargs)
        # On one core the guidance pair and the images go to two, as with the host's DataParallel.
        cores = max(tensor_parallel_size, 2)
        order = sorted(programs, key=lambda name: name != "transformer")  # the largest copy of the host's memory first
        return {name: load_program(programs[name], cores) for name in order}

    @classmethod
    def from_pretrained(cls, model_id: str | Path, export: bool = False, **kwargs: Any):
        """Load a compiled pipeline, or compile a checkpoint and load it.

        Args:
            model_id: a compiled pipeline's folder or Hub id; with `export`, a checkpoint's.
            export: compile first. Takes the options of `optimum-cli export neuron` by name, see `ExportOptions`;
                `output` is where the artifacts go, a temporary folder that lives as long as the pipeline if left out.

        Raises:
            InvalidExportOption: an option that the export does not know, or a value it cannot have.
            DeviceError: compiled, but this machine has no NeuronCore, or another kind of it, to load it on; names
                the folder, which is then kept.
        """
        if not export:
            return super().from_pretrained(model_id, **kwargs)
        known = {field.name for field in fields(ExportOptions)} - {"model"}
        unknown = sorted(set(kwargs) - known)
        if unknown:
            raise InvalidExportOption(f"from_pretrained(export=True) does not take {', '.join(unknown)}")
        output, holder = kwargs.pop("output", None), None
        missing = _missing_device(kwargs.get("instance_type"))
        if output is None and missing:
            output = Path(tempfile.mkdtemp(prefix="pixart-neuron-")) / "pipeline"
        elif output is None:
            holder = tempfile.TemporaryDirectory(prefix="pixart-neuron-")
            output = Path(holder.name) / "pipeline"
        options = {name: _dtype_name(value) for name, value in kwargs.items()}
        folder = export_checkpoint(ExportOptions(model=str(model_id), output=Path(output), **options))
        if missing:
            raise DeviceError(f"compiled into {folder}, but loading it needs {missing}")
        pipeline = super().from_pretrained(folder)
        pipeline._artifacts_holder = holder  # removes a temporary folder together with the pipeline
        return pipeline

    def replace_weights(self, weights: Any = None) -> None:
        """Not offered: the host's method skips most weights of PixArt and does not say so.

        Raises:
            PixArtNeuronError: always; says what to do instead.
        """
        raise PixArtNeuronError("weights of a compiled PixArt-Sigma cannot be replaced; export the changed checkpoint")

    @property
    def compiled_size(self) -> tuple[int, int]:
        """Height and width of the images this pipeline makes, in pixels."""
        neuron = self.transformer.config.neuron
        return neuron["static_height"] * self.vae_scale_factor, neuron["static_width"] * self.vae_scale_factor

    def __call__(
        self,
        *args: Any,
        height: int | None = None,
        width: int | None = None,
        use_resolution_binning: bool = True,
        max_sequence_length: int | None = None,
        **kwargs: Any,
    ):
        """Generate images; arguments and result as `diffusers.PixArtSigmaPipeline.__call__`.

        Args:
            height: pixels; the compiled height if left out.
            width: pixels; the compiled width if left out.
            use_resolution_binning: map a size that is not compiled to the checkpoint's nearest resolution, and resize
                the image back, as diffusers does.
            max_sequence_length: tokens of a prompt; can only be the compiled number.

        Raises:
            ProgramInputError: a size, length, latent or embedding that does not fit the compiled programs.
        """
        height, width = height or self.compiled_size[0], width or self.compiled_size[1]
        compiled_length = self.text_encoder.config.neuron["static_sequence_length"]
        if max_sequence_length not in (None, compiled_length):
            raise ProgramInputError(
                f"max_sequence_length {max_sequence_length}: compiled for {compiled_length} tokens;"
                f" export with --sequence_length {max_sequence_length}"
            )
        binned = (height, width) != self.compiled_size and use_resolution_binning
        self._check_size(height, width, binned)
        return PixArtSigmaPipeline.__call__(
            self,
            *args,
            height=height,
            width=width,
            use_resolution_binning=binned,
            max_sequence_length=compiled_length,
            **kwargs,
        )

    def _check_size(self, height: int, width: int, binned: bool) -> None:
        if (height, width) == self.compiled_size:
            return
        compiled = f"{self.compiled_size[1]} x {self.compiled_size[0]} px"
        bins = resolution_bins(self.transformer.config.sample_size)
        if not (binned and bins):
            raise ProgramInputError(
                f"{width} x {height} px: compiled for {compiled}; export with --height {height} --width {width}"
            )
        tall, wide = PixArtImageProcessor.classify_height_width_bin(height, width, ratios=bins)
        if (tall, wide) != self.compiled_size:
            raise ProgramInputError(
                f"{width} x {height} px is made at {wide} x {tall} px, compiled is {compiled};"
                f" export with --height {tall} --width {wide}"
            )


def _batched(copies: Sequence[Any], neuron: dict, neuron_config: Any) -> BatchedProgram:
    """Lift the batch limit of a program."""
    batch = neuron["static_batch_size"] * (2 if neuron["parallel"]["guided"] else 1)
    config_class = _CONFIG_CLASSES[neuron_config.MODEL_TYPE]
    return BatchedProgram(copies, [_program_input(spec, neuron, batch) for spec in config_class.PROGRAM_INPUTS])


def _program_input(spec: Any, neuron: dict, batch: int) -> ProgramInput:
    sizes = [batch if axis == "batch_size" else neuron[f"static_{axis}"] for axis in spec.axes]
    return ProgramInput(name=spec.name, shape=tuple(sizes), dtype=spec.dtype)


def _missing_device(instance_type: str | None) -> str | None:
    """What this machine lacks to load what is compiled for `instance_type`, in words; None if nothing."""
    here = ensure_sdk().instance
    if here is None:
        return "a machine with NeuronCores"
    if instance_type is None:
        return None
    try:
        wanted, present = get_instance(instance_type).platform_target, get_instance(here).platform_target
    except ValueError:
        return None  # the export refuses the name
    return None if wanted == present else f"{instance_type}, and this machine is {here}"


def _dtype_name(value: Any) -> Any:
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value

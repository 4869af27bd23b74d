"""The files of an export, in optimum-neuron's layout (0.4.5), written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from optimum.neuron.utils import store_compilation_config
from optimum.neuron.utils.version_utils import get_neuronxcc_version

from ..checkpoint import COPIED_COMPONENTS, PixArtCheckpoint
from ..errors import InvalidExportOption
from ..modeling.attention_kernel import WRITTEN_OUT
from .components import PixArtComponentConfig
from .program import TracedProgram
from .settings import ExportSettings

MODEL_FILE = "model.neuron"
WEIGHTS_FOLDER = "weights"


def check_output(output: Path) -> None:
    """Refuse to write over anything.

    Raises:
        InvalidExportOption: `output` is a file or a folder that holds something, or cannot be made.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InvalidExportOption(f"{output} exists and is not empty; give an output folder that does not exist")
    above = next(folder for folder in output.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InvalidExportOption(f"{output} cannot be made: {above} is not a folder")
    if not os.access(above, os.W_OK):
        raise InvalidExportOption(f"{output} cannot be made: you may not write to {above}")


@contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """A temporary sibling of `output` that becomes it at the end of the block, or vanishes on any error."""
    output = output.resolve()  # a link stays one, and "." has no name of its own
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.partial-") as holder:
        folder = Path(holder) / output.name
        folder.mkdir()
        yield folder
        if output.is_dir():
            output.rmdir()  # an empty folder, see check_output
        folder.rename(output)


def copy_unchanged(checkpoint: PixArtCheckpoint, folder: Path) -> None:
    """Copy what no compiler touches: the pipeline's index, tokenizer and scheduler."""
    shutil.copyfile(checkpoint.folder / "model_index.json", folder / "model_index.json")
    for component in COPIED_COMPONENTS:
        shutil.copytree(checkpoint.folder / component, folder / component)


def write_component_config(
    component: PixArtComponentConfig, program: TracedProgram, settings: ExportSettings, folder: Path, inline: bool
) -> None:
    """Write the component's `config.json`: the checkpoint's, with the `neuron` section the stock loader reads.

    Ours in that section: `torch_dtype` of weights and matmuls, `target`, `lnc`, `compiler_args`, `parallel` with the
    split and the collectives of one run, counted from the traced program, and the transformer's `attention`.
    """
    compiler = settings.compiler
    holder = SimpleNamespace(model_type=component.source_config.get("model_type"))
    store_compilation_config(
        holder,
        input_shapes=component.input_shapes,
        compiler_kwargs={
            "auto_cast": compiler.auto_cast,
            "auto_cast_type": compiler.auto_cast_type if compiler.auto_cast else None,
            "instance_type": settings.instance.family,
        },
        int_dtype=component.int_dtype,
        float_dtype=component.float_dtype,
        dynamic_batch_size=component.dynamic_batch,
        compiler_type="neuronx-cc",
        compiler_version=get_neuronxcc_version(),
        inline_weights_to_neff=inline,
        optlevel=str(compiler.optlevel_of(component.COMPONENT)),
        tensor_parallel_size=settings.ranks,
        model_type=component.MODEL_TYPE,
        task=component.task,
    )
    parallel = {
        "mode": component.split.mode if component.split else settings.parallel_mode and "data",
        "ranks": component.ranks,
        "guided": component.guided,
        **(component.split.describe() if component.split else {}),
        "collectives": program.traffic(),
    }
    neuron = {
        **holder.neuron,
        "model_type": component.MODEL_TYPE,
        "torch_dtype": str(component.weights_dtype).removeprefix("torch."),
        "target": compiler.target,
        "lnc": compiler.lnc,
        "compiler_args": compiler.arguments(component.COMPONENT, component.ranks),
        "parallel": parallel,
    }
    if component.COMPONENT == "transformer":
        neuron["attention"] = {"kernel": settings.attention_kernel or WRITTEN_OUT}
    config = {"model_type": component.MODEL_TYPE, **component.source_config, "neuron": neuron}
    if component.COMPONENT == "text_encoder":
        # The stock loader casts the embeddings to this, and diffusers makes the latents in the embeddings' dtype.
        config.pop("torch_dtype", None)
        config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

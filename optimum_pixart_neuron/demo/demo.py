"""The whole path: checkpoint, export, load with optimum-neuron's own class, pictures beside those of diffusers."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..options import Count, Flag, Folder, Options

logger = logging.getLogger(__name__)

CHECKPOINT = Path(__file__).with_name("checkpoint")
"""A PixArt-Sigma of 3.8 million parameters that was trained on captions of flat shapes, see `examples/shapes`."""

CAPTIONS = (
    ("a large red circle left of a small blue square on white", 11),
    ("a small yellow cross above a large purple triangle on black", 1),
    ("three small green squares in a row on pink", 2),
    ("a large orange triangle in the center on cyan", 3),
    ("a large green square below a small orange cross on cyan", 4),
    ("four small red triangles in a column on white", 5),
)
"""With the seed of each picture."""
STEPS = 20
CORES = 4

_FOLDER, _PICTURE = "pixart-neuron", "demo.png"


class DemoOptions(Options):
    """Where the demonstration goes, and over how many cores."""

    output: Annotated[Folder, Flag(names=("output",), nargs="?")] = Field(
        Path("pixart-demo"), description="Folder for the export and the picture."
    )
    tensor_parallel_size: Count = Field(CORES, description="Cores to spread the model over.")


def demonstrate(options: DemoOptions) -> Path:
    """Export the small checkpoint, draw with the export and with diffusers, and write both into one picture.

    Returns:
        the picture.

    Raises:
        InvalidExportOption: the checkpoint does not divide over so many cores, or the folder cannot take the export.
        DeviceError: a program failed.
    """
    from ..export.exporter import export
    from ..export.options import ExportOptions
    from ..neuron.sdk import ensure_sdk
    from .sheet import contact_sheet, psnr

    ranks = options.tensor_parallel_size
    sdk = ensure_sdk()
    folder = export(
        ExportOptions(
            model=str(CHECKPOINT),
            output=options.output / _FOLDER,
            tensor_parallel_size=ranks,
            disable_validation=True,  # the pictures are the comparison
            force=True,
        )
    )
    logger.info("drawing with optimum.neuron.NeuronPixArtSigmaPipeline, then with diffusers in float32")
    pictures, references = _draw(_exported(folder)), _draw(_original())
    captions = [caption for caption, _ in CAPTIONS]
    where = "emulated cores" if sdk.emulated else "NeuronCores"
    titles = ("diffusers, float32", f"{ranks} cores, bfloat16")
    picture = options.output / _PICTURE
    contact_sheet(zip(captions, references, pictures), titles).save(picture, optimize=True)
    values = [psnr(*pair) for pair in zip(references, pictures)]
    logger.info(
        f"{len(pictures)} pictures by a bfloat16 export on {ranks} {where}: PSNR {min(values):.1f} to"
        f" {max(values):.1f} dB against diffusers in float32"
    )
    logger.info(f"wrote {picture}")
    logger.info(f"next, a caption of your own: {next_command(folder)}")
    return picture


def next_command(folder: Path) -> str:
    """A line for the shell that draws with an export of the checkpoint, to go on from."""
    name = "NeuronPixArtSigmaPipeline"
    load = f"from optimum_pixart_neuron import {name}; pipe = {name}.from_pretrained({json.dumps(str(folder))})"
    draw = 'pipe("a large green triangle in the center on pink").images[0].save("triangle.png")'  # good with any seed
    return f"python -c {shlex.quote(f'{load}; {draw}')}"


def _exported(folder: Path) -> Any:
    from optimum.neuron import NeuronPixArtSigmaPipeline  # the stock class; ours is not imported

    return NeuronPixArtSigmaPipeline.from_pretrained(folder)


def _original() -> Any:
    from diffusers import PixArtSigmaPipeline
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    return PixArtSigmaPipeline.from_pretrained(CHECKPOINT, low_cpu_mem_usage=False)  # float32, as it is stored


def _draw(pipe: Any) -> list[Any]:
    """One seeded picture a caption."""
    import torch

    pipe.set_progress_bar_config(disable=True)
    return [
        pipe(caption, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(seed)).images[0]
        for caption, seed in CAPTIONS
    ]

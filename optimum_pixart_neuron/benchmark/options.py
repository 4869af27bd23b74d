"""Options of a benchmark; those of the pipeline's call are named as diffusers names them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..options import Count, Flag, Options, Text

PROMPT = "a photo of an astronaut riding a horse on mars, highly detailed"


class BenchmarkOptions(Options):
    """What is measured, how often, and with which requests."""

    output: Annotated[Text, Flag(names=("output",), metavar="OUT")] = Field(
        description="Folder, or id on the Hugging Face Hub, of a compiled pipeline."
    )
    num_inference_steps: Annotated[Count | None, Flag(group="Run")] = Field(
        None, description="Denoising steps of an image; default: the export's, or 20."
    )
    images: Count = Field(10, description="Images to measure, rounded up to whole requests.")
    warmup: int = Field(2, ge=0, description="Requests before them, not measured.")
    guidance_scale: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Default: the export's; without one 4.5 as in diffusers, 1 where it has no guidance.",
    )
    guidance_interval: Annotated[tuple[float, float] | None, Flag(nargs=2, metavar="FRACTION")] = Field(
        None, description="Fractions of the schedule between which guidance is computed; default: 0 1, all of it."
    )
    size: Annotated[str | None, Flag(metavar="HEIGHTxWIDTH")] = Field(
        None, description="Of the pictures, of several that are compiled; default: the first."
    )
    prompt: str = Field(PROMPT, description="Given for every image.")
    negative_prompt: str = Field("", description="Likewise; default: empty.")
    batch_size: Count | None = Field(
        None, description="Prompts of a request; default: as compiled, for every copy of the transformer."
    )
    num_images_per_prompt: Count | None = Field(None, description="Images per prompt; default: as compiled.")
    prompt_cache: int = Field(
        0,
        ge=0,
        description=(
            "Embeddings of prompts that are kept, as prompt_cache of from_pretrained, and hits counted; default: none,"
            " so that every request pays for its text encoder."
        ),
    )
    seed: int = Field(0, description="Of the first request's noise; default: 0.")
    stock: bool = Field(False, description="Load with optimum-neuron's own class.")
    price_per_hour: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="US dollars for the instance, instead of the known price; not on the emulator.",
    )

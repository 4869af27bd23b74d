"""What `pixart-generate` is asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ...options import Count, Flag, Folder, Options, Text
from ..encoding import FORMATS
from ..picture import LARGEST_SEED

_ROWS, _PROMPTS, _POOL = "What rows leave open", "Prompts", "Actors"


class GenerateOptions(Options):
    """A job: the export that draws, the prompts, what their rows leave open, and where the pictures go."""

    export: Annotated[Text, Flag(names=("export",), metavar="EXPORT")] = Field(
        description="Folder, or id on the Hugging Face Hub, of a compiled pipeline."
    )
    output: Annotated[Folder, Flag(names=("output",), metavar="OUT")] = Field(
        description="Folder for the pictures; one of the same job goes on where it stopped."
    )
    prompts: Annotated[Text, Flag(metavar="FILE", group=_PROMPTS)] = Field(
        description=(
            "File with a prompt a line (.txt), or with columns named as the pipeline's arguments (.jsonl, .csv,"
            " .parquet); or id of a data set on the Hugging Face Hub."
        ),
    )
    split: Annotated[Text, Flag(group=_PROMPTS)] = Field("train", description="Of a data set on the Hub.")
    prompts_revision: Annotated[Text | None, Flag(group=_PROMPTS)] = Field(
        None, description="Branch, tag or commit of a data set on the Hub."
    )
    ignore_other_columns: Annotated[bool, Flag(group=_PROMPTS)] = Field(
        False, description="Leave out columns that are no argument of the pipeline, instead of refusing them."
    )
    image_format: Annotated[str, Flag(choices=tuple(FORMATS))] = Field("png", description="Of the files.")
    revision: Annotated[Text | None, Flag()] = Field(
        None, description="Branch, tag or commit of an export on the Hub."
    )
    negative_prompt: Annotated[str, Flag(group=_ROWS)] = Field("", description="Default: empty.")
    seed: Annotated[int, Flag(group=_ROWS)] = Field(
        0, ge=0, le=LARGEST_SEED, description="From which each row gets a seed of its own (default: 0)."
    )
    num_images_per_prompt: Annotated[Count, Flag(group=_ROWS)] = Field(
        1, le=10_000, description="Pictures of a row; their seeds count up from the row's."
    )
    guidance_scale: Annotated[float | None, Flag(group=_ROWS)] = Field(
        None,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Default: the export's; without one 4.5 as in diffusers, 1 where it has no guidance.",
    )
    num_inference_steps: Annotated[int | None, Flag(group=_ROWS)] = Field(
        None, ge=1, le=1000, description="Denoising steps; default: the export's, or 20."
    )
    height: Annotated[Count | None, Flag(group=_ROWS)] = Field(None, description="Pixels; default: as compiled.")
    width: Annotated[Count | None, Flag(group=_ROWS)] = Field(None, description="Pixels; default: as compiled.")
    actors: Annotated[Count | None, Flag(group=_POOL)] = Field(
        None, description="Pipelines at the same time; default: as many as there are cores for."
    )
    address: Annotated[Text | None, Flag(group=_POOL)] = Field(
        None, description="Of a Ray cluster, such as auto or ray-head:6379; default: a Ray of this machine's own."
    )

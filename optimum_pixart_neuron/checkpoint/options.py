"""Options that say which checkpoint is meant; every command that opens one has them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..options import Flag, Folder, Options, Text
from .layout import COMPONENTS_MODEL

_GROUP = "Checkpoint"
_SOURCE = Flag(group=_GROUP)
_OF_THIS_MACHINE = Flag(group=_GROUP, recorded=False)


class CheckpointOptions(Options):
    """Where each component of a PixArt-Sigma checkpoint comes from, and how it is downloaded."""

    model: Annotated[Text, Flag(names=("-m", "--model"), group=_GROUP, recorded=False)] = Field(
        description="Id on the Hugging Face Hub, or folder, of the PixArt-Sigma checkpoint."
    )
    subfolder: Annotated[Text, _SOURCE] = Field(
        "", description="Folder inside the repository or folder that holds model_index.json."
    )
    revision: Annotated[str | None, _SOURCE] = Field(
        None, description="Branch, tag or commit of the model's repository on the Hub."
    )
    components_model: Annotated[Text | None, _SOURCE] = Field(
        None,
        description=(
            f"Id or folder of what the model lacks; default, for a transformer alone: {COMPONENTS_MODEL}. Ids of"
            " models may be id[@revision][/path]."
        ),
    )
    transformer: Annotated[Text | None, _SOURCE] = Field(
        None, description="Id or folder of a transformer in place of the model's: a pipeline or itself."
    )
    text_encoder: Annotated[Text | None, _SOURCE] = Field(
        None, description="Id or folder of a T5 text encoder in place of the model's: a pipeline or itself."
    )
    variant: Annotated[str | None, _SOURCE] = Field(None, description="Variant of the weight files, for example fp16.")
    token: Annotated[str | bool | None, _OF_THIS_MACHINE] = Field(
        None,
        repr=False,
        description="Access token for the Hub; without it the one stored by `hf auth login` is used.",
    )
    cache_dir: Annotated[Folder | None, _OF_THIS_MACHINE] = Field(None, description="Folder of the download cache.")
    local_files_only: Annotated[bool, _OF_THIS_MACHINE] = Field(
        False, description="Use what is in the download cache and never the network."
    )

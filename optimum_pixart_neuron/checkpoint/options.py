"""Options that say which checkpoint is meant; every command that opens one has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, create_model, model_validator

from ..components.registry import PARTS
from ..errors import CheckpointError, InvalidExportOption
from ..options import Flag, Folder, Options, Text
from .address import Address
from .layout import ALPHA, SIGMA

_GROUP = "Checkpoint"
_SOURCE = Flag(group=_GROUP)
_OF_THIS_MACHINE = Flag(group=_GROUP, recorded=False)
_LORA = Flag(group="LoRA", nargs="*", recorded=False)  # the manifest tells of each adapter
_MOST_ADAPTERS = 64


def listed(value: Any) -> Any:
    """The host takes one of anything in place of a list."""
    return value if isinstance(value, (list, tuple)) else (value,)


class _ModelOptions(Options):
    model: Annotated[Text, Flag(names=("-m", "--model"), group=_GROUP, recorded=False)] = Field(
        description="Id on the Hugging Face Hub, or folder, of the PixArt checkpoint. Ids of this and the next"
        " ones may be id[@revision][/path]."
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
            f"Id or folder of what the model lacks; default, for a transformer alone: {SIGMA.components_model}, or"
            f" {ALPHA.components_model} for one of PixArt-Alpha."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _taken_apart(cls, given: dict[str, Any]) -> dict[str, Any]:
        """`id@revision/path` is the same as `id`, `--revision` and `--subfolder`."""
        model, revision = given.get("model"), given.get("revision")
        named = Address.parse("--model", model) if isinstance(model, str) else None
        if named is None or named.repository in (None, model):
            return given
        if named.revision is not None and revision is not None:
            raise CheckpointError(f"--revision {revision}: --model {model} names a revision, too; leave one out")
        below = named.below(str(given.get("subfolder") or "")).path
        return {**given, "model": named.repository, "revision": named.revision or revision, "subfolder": below}


if TYPE_CHECKING:
    _PartOptions = _ModelOptions
else:
    _PartOptions = create_model(
        "_PartOptions",
        __base__=_ModelOptions,
        **{
            part.name: (Annotated[Text | None, _SOURCE], Field(None, description=part.flag_help))
            for part in PARTS.values()
            if part.flag_help
        },
    )


class CheckpointOptions(_PartOptions):
    """Where each component of a PixArt checkpoint comes from, and how it is downloaded.

    Each part of a checkpoint that may come from elsewhere has an option of its name.
    """

    lora_model_ids: Annotated[tuple[Text, ...], BeforeValidator(listed), _LORA] = Field(
        (),
        max_length=_MOST_ADAPTERS,
        description="Ids or folders of LoRAs that are merged into the weights, in this order.",
    )
    lora_weight_names: Annotated[tuple[str, ...], BeforeValidator(listed), _LORA] = Field(
        (), description="File of each; default: the one that there is."
    )
    lora_adapter_names: Annotated[tuple[str, ...], BeforeValidator(listed), _LORA] = Field(
        (), description="Name of each, for the manifest; default: default_0 and so on."
    )
    lora_scales: Annotated[
        tuple[Annotated[float, Field(allow_inf_nan=False)], ...], BeforeValidator(listed), _LORA
    ] = Field((), description="Factor of each; default: 1.")
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

    @model_validator(mode="after")
    def _one_for_each_lora(self) -> CheckpointOptions:
        count = len(self.lora_model_ids)
        for name in ("lora_weight_names", "lora_adapter_names", "lora_scales"):
            given = len(getattr(self, name))
            if given not in (0, count):
                raise InvalidExportOption(f"--{name}: {given} given, --lora_model_ids has {count}; give one for each")
        if len(set(self.lora_adapter_names)) < len(self.lora_adapter_names):
            raise InvalidExportOption("--lora_adapter_names: two of one name; give each its own")
        return self

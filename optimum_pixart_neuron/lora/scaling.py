"""What an adapter says of itself: peft's `adapter_config.json`, or the same in the header of a file of diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import CheckpointError, printable
from ..files import parse_json, read_typed, typed

CONFIGURATION = "adapter_config.json"
METADATA = "lora_adapter_metadata"
"""In the header of a file that diffusers wrote (0.34 and later, `loaders/lora_base.py`)."""

# Of peft's `LoraConfig` (0.21), what changes nothing of a merged weight: it names places, or says how the adapter was
# begun and trained.
_WITHOUT_MEANING = frozenset(
    {
        *("auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout"),
        *("fan_in_fan_out", "megatron_core", "qalora_group_size", "loftq_config", "eva_config", "corda_config"),
        *("lora_ga_config", "runtime_config"),
        *("r", "rank_pattern"),  # the tensors tell
    }
)
# Of `init_lora_weights`: those that leave the base weights as they are.
_PLAIN_BEGINNINGS = (True, False, "gaussian", "orthogonal", "eva")
_LITERAL = re.compile(r"\^?[\w.\\]+\$?")

_Number = Annotated[float, Field(allow_inf_nan=False)]


class LoraSettings(BaseModel):
    """How an adapter is scaled; what else it may say is refused unless it has no meaning for a merged weight.

    Attributes:
        lora_alpha: the change is scaled by alpha / rank.
        alpha_pattern: alpha of some modules, by the end of their path.
        use_rslora: scaled by alpha / sqrt(rank) instead.
        use_dora: rows get the norms that the adapter has learned.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    peft_type: Literal["LORA"] = "LORA"
    lora_alpha: _Number = 8
    alpha_pattern: dict[str, _Number] = {}
    use_rslora: bool = False
    use_dora: bool = False
    bias: Literal["none"] = "none"
    init_lora_weights: bool | str = True

    @model_validator(mode="after")
    def _without_more(self) -> LoraSettings:
        for name, value in (self.model_extra or {}).items():
            if value and name not in _WITHOUT_MEANING:
                raise ValueError(f"{printable(name)} is set, which is not merged here")
        if self.init_lora_weights not in _PLAIN_BEGINNINGS:
            raise ValueError(
                f"init_lora_weights is {printable(self.init_lora_weights)}, which changes the base weights too; save"
                " the adapter as a plain LoRA first (peft: path_initial_model_for_weight_conversion)"
            )
        for pattern in self.alpha_pattern:
            if not _LITERAL.fullmatch(pattern):
                raise ValueError(f"alpha_pattern: {printable(pattern)} is a regular expression, no module's name")
        return self

    def scale(self, module: str, rank: int) -> float:
        """By which the product of a module's two matrices is multiplied."""
        alpha = self._alpha(module)
        return alpha / (rank**0.5 if self.use_rslora else rank)

    def _alpha(self, module: str) -> float:
        for pattern, alpha in self.alpha_pattern.items():
            name = pattern.removeprefix("^").removesuffix("$").replace("\\", "")
            if module == name or (module.endswith(f".{name}") and not pattern.startswith("^")):
                return alpha
        return self.lora_alpha

    @classmethod
    def read(cls, path: Path) -> LoraSettings:
        """Those of a folder of peft's; CheckpointError without the file, or for a key that cannot be merged."""
        return read_typed(path, cls, CheckpointError)

    @classmethod
    def of_part(cls, said: Mapping[str, str], part: str, path: Path) -> LoraSettings | None:
        """Those of one part of a checkpoint in what a file's header says; None where it says nothing.

        Args:
            said: as `files.safetensors_contents` gives it.
            path: of the file, for messages.
        """
        if METADATA not in said:
            return None
        try:
            content = parse_json(said[METADATA].encode())
        except ValueError as error:
            raise CheckpointError(f"{path}: {METADATA} in its header is damaged: {error}") from None
        if not isinstance(content, dict):
            raise CheckpointError(f"{path}: {METADATA} in its header is not a JSON object")
        prefix = f"{part}."
        own = {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}
        return typed(own, cls, path, CheckpointError) if own else None

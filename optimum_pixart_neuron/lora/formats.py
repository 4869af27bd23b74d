"""How files of adapters call their tensors, as data: one table a form. Imports nothing heavy.

Sources: diffusers 0.35 `loaders/peft.py` and `utils/state_dict_utils.py`; peft 0.21 `get_peft_model_state_dict`;
kohya's sd-scripts `networks/lora.py`, whose names OneTrainer gives PixArt's adapters; and PixArt-Sigma's own
`train_scripts/train_pixart_lora_hf.py`, which saves a folder of peft's and, in `transformer_lora/`, a file with both
prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ..components.registry import DENOISER, PROMPT_ENCODER


class Role(Enum):
    """What a tensor of an adapter is to the weight that it changes."""

    DOWN = "down"  # A, (rank, in) or for a convolution (rank, in, height, width)
    UP = "up"  # B, (out, rank) or (out, rank, 1, 1)
    MAGNITUDE = "magnitude"  # DoRA's: the norms that rows or columns of the changed weight get
    ALPHA = "alpha"  # a single number


@dataclass(frozen=True, kw_only=True)
class Key:
    """The name of one tensor, taken apart.

    Attributes:
        part: of a checkpoint, that it is for; None for whichever has such a module.
        module: path in the part, as the file writes it.
        role: what the tensor is.
    """

    part: str | None
    module: str
    role: Role


@dataclass(frozen=True, kw_only=True)
class Format:
    """One form.

    Attributes:
        name: in messages.
        prefixes: how names begin, longest first -> the part of a checkpoint.
        endings: how they end -> what the tensor is.
        separator: between the names of a module's path.
    """

    name: str
    prefixes: Mapping[str, str | None]
    endings: Mapping[str, Role]
    separator: str = "."

    def key(self, name: str) -> Key | None:
        """A tensor's name taken apart; None for a name of another form."""
        prefix = next((prefix for prefix in self.prefixes if name.startswith(prefix)), None)
        ending = next((ending for ending in self.endings if name.endswith(ending)), None)
        if prefix is None or ending is None or len(name) <= len(prefix) + len(ending):
            return None
        module = name.removeprefix(prefix).removesuffix(ending)
        return Key(part=self.prefixes[prefix], module=module, role=self.endings[ending])

    def written(self, module: str) -> str:
        """A module's path as this form writes it."""
        return module.replace(".", self.separator)


TARGETS = _TRANSFORMER, _TEXT = DENOISER.part.name, PROMPT_ENCODER.part.name
"""Parts of a checkpoint that adapters are for."""
_PAIR = {".lora_A.weight": Role.DOWN, ".lora_B.weight": Role.UP}
_MAGNITUDE = {".lora_magnitude_vector": Role.MAGNITUDE, ".lora_magnitude_vector.weight": Role.MAGNITUDE}
_KOHYA = {
    ".lora_down.weight": Role.DOWN,
    ".lora_up.weight": Role.UP,
    ".dora_scale": Role.MAGNITUDE,
    ".alpha": Role.ALPHA,
}

FORMATS = (
    Format(
        name="peft",
        prefixes={"unet.base_model.model.": _TRANSFORMER, "base_model.model.": None},
        endings={**_PAIR, **_MAGNITUDE},
    ),
    Format(
        name="kohya",
        prefixes={
            "lora_transformer_": _TRANSFORMER,
            "lora_unet_": _TRANSFORMER,
            "lora_te1_": _TEXT,
            "lora_te_": _TEXT,
        },
        endings=_KOHYA,
        separator="_",
    ),
    Format(
        name="diffusers",
        prefixes={f"{_TRANSFORMER}.": _TRANSFORMER, f"{_TEXT}.": _TEXT, "": None},
        endings={
            **_PAIR,
            **_MAGNITUDE,
            **{".lora.down.weight": Role.DOWN, ".lora.up.weight": Role.UP},  # diffusers before 0.26
            **_KOHYA,
        },
    ),
)
"""In the order in which they are tried: names of the last one may begin with anything."""


def format_of(names: Iterable[str]) -> tuple[Format, str | None]:
    """The form that all names have; else the one that most of them have, and the first name that it does not know."""
    names = list(names)
    tried = [(form, [name for name in names if form.key(name) is None]) for form in FORMATS]
    form, unknown = min(tried, key=lambda each: len(each[1]))
    return form, next(iter(unknown), None)

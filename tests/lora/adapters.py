"""Adapters for the small checkpoint, in every form in which people save them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

MODULES = (
    *("pos_embed.proj", "adaln_single.linear", "caption_projection.linear_1", "proj_out"),
    *("transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn1.to_out.0", "transformer_blocks.0.ff.net.0.proj"),
    *("transformer_blocks.1.attn2.to_v", "transformer_blocks.1.attn2.to_out.0", "transformer_blocks.1.ff.net.2"),
)
"""Of the transformer: column, row and copied weights, and a convolution."""
TEXT_MODULES = ("encoder.block.0.layer.0.SelfAttention.q", "encoder.block.1.layer.1.DenseReluDense.wo")

Matrices = dict[str, tuple[Tensor, Tensor]]


def weights_of(checkpoint: Path, component: str = "transformer") -> dict[str, Tensor]:
    """All weights of a component of a checkpoint."""
    (file,) = (checkpoint / component).glob("*.safetensors")
    return load_file(file)


def matrices(weights: Mapping[str, Tensor], modules=MODULES, *, rank: int = 4, seed: int = 0) -> Matrices:
    """Random down and up matrices of each module, whose product is as large as the weight."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for module in modules:
        shape = weights[f"{module}.weight"].shape
        down = torch.randn(rank, *shape[1:], generator=generator) / shape[1:].numel() ** 0.5
        up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator) / rank**0.5
        made[module] = (down, up)
    return made


def merged_by_hand(weights: Mapping[str, Tensor], made: Matrices, scale: float) -> dict[str, Tensor]:
    """The changed weights, computed in float64."""
    result = {}
    for module, (down, up) in made.items():
        weight = weights[f"{module}.weight"].double()
        product = up.double().flatten(1) @ down.double().flatten(1)
        result[f"{module}.weight"] = weight + scale * product.view(weight.shape)
    return result


def write_peft(folder: Path, made: Matrices, *, prefix: str = "base_model.model.", **settings) -> Path:
    """A folder as peft's `save_pretrained` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    rank = next(iter(made.values()))[0].shape[0]
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["to_q"], **settings})
    )
    save_file(
        _pairs(made, lambda module: f"{prefix}{module}", "lora_A", "lora_B"), folder / "adapter_model.safetensors"
    )
    return folder


def write_diffusers(folder: Path, made: Matrices, *, part: str = "transformer", metadata: dict | None = None) -> Path:
    """A folder as diffusers' `save_lora_weights` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"format": "pt"}
    if metadata is not None:
        said["lora_adapter_metadata"] = json.dumps({f"{part}.{name}": value for name, value in metadata.items()})
    tensors = _pairs(made, lambda module: f"{part}.{module}", "lora_A", "lora_B")
    save_file(tensors, folder / "pytorch_lora_weights.safetensors", metadata=said)
    return folder


def write_kohya(
    file: Path,
    made: Matrices,
    *,
    alpha: float | None = None,
    start: str = "lora_transformer_",
    more: Matrices | None = None,
) -> Path:
    """A file as kohya's scripts and OneTrainer write it; `more` is of the text encoder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for prefix, part in ((start, made), ("lora_te_", more or {})):
        flat: Callable[[str], str] = lambda module, prefix=prefix: prefix + module.replace(".", "_")  # noqa: E731
        tensors |= _pairs(part, flat, "lora_down", "lora_up")
        if alpha is not None:
            tensors |= {f"{flat(module)}.alpha": torch.tensor(alpha) for module in part}
    save_file(tensors, file)
    return file


def _pairs(made: Matrices, name: Callable[[str], str], down: str, up: str) -> dict[str, Tensor]:
    tensors = {f"{name(module)}.{down}.weight": pair[0] for module, pair in made.items()}
    return tensors | {f"{name(module)}.{up}.weight": pair[1] for module, pair in made.items()}


def merged_pipeline(checkpoint: Path, **changed: Mapping[str, Tensor]):
    """diffusers' pipeline in float32 with other weights in some components: `transformer={name: tensor}`."""
    from diffusers import PixArtSigmaPipeline

    pipe = PixArtSigmaPipeline.from_pretrained(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    for component, weights in changed.items():
        module = getattr(pipe, component)
        module.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=False)
    return pipe

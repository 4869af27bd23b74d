"""Names of the transformer's weights in PixArt's own repository, and diffusers', as data.

Sources: PixArt-Sigma `tools/convert_pixart_to_diffusers.py`, and its models `diffusion/model/nets/PixArt.py` and
`PixArtMS.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from ...errors import CheckpointError, printable
from ...files import TensorEntry
from ..common.single_file import Piece, SingleFile

MODULES: dict[str, tuple[str, ...]] = {
    "x_embedder.proj": ("pos_embed.proj",),
    "y_embedder.y_proj.fc1": ("caption_projection.linear_1",),
    "y_embedder.y_proj.fc2": ("caption_projection.linear_2",),
    "t_embedder.mlp.0": ("adaln_single.emb.timestep_embedder.linear_1",),
    "t_embedder.mlp.2": ("adaln_single.emb.timestep_embedder.linear_2",),
    "csize_embedder.mlp.0": ("adaln_single.emb.resolution_embedder.linear_1",),
    "csize_embedder.mlp.2": ("adaln_single.emb.resolution_embedder.linear_2",),
    "ar_embedder.mlp.0": ("adaln_single.emb.aspect_ratio_embedder.linear_1",),
    "ar_embedder.mlp.2": ("adaln_single.emb.aspect_ratio_embedder.linear_2",),
    "t_block.1": ("adaln_single.linear",),
    "blocks.*.attn.qkv": tuple(f"transformer_blocks.*.attn1.to_{each}" for each in "qkv"),
    "blocks.*.attn.proj": ("transformer_blocks.*.attn1.to_out.0",),
    "blocks.*.cross_attn.q_linear": ("transformer_blocks.*.attn2.to_q",),
    "blocks.*.cross_attn.kv_linear": tuple(f"transformer_blocks.*.attn2.to_{each}" for each in "kv"),
    "blocks.*.cross_attn.proj": ("transformer_blocks.*.attn2.to_out.0",),
    "blocks.*.mlp.fc1": ("transformer_blocks.*.ff.net.0.proj",),
    "blocks.*.mlp.fc2": ("transformer_blocks.*.ff.net.2",),
    "final_layer.linear": ("proj_out",),
}
"""Module -> the modules that its rows are divided among in diffusers, in equal shares; `*` is the block's number."""

TABLES = {
    "blocks.*.scale_shift_table": ("transformer_blocks.*.scale_shift_table",),
    "final_layer.scale_shift_table": ("scale_shift_table",),
}
"""Bare weights."""

WITHOUT_USE = ("pos_embed", "y_embedder.y_embedding")
"""Positions, which every program computes for its own size, and the caption that training drops prompts for."""

_HEADS = 16  # of every model in that repository (`PixArt.py`, `PixArt_XL_2`)
_CELLS_OF_512_PX = 64
_BLOCK = re.compile(r"\.(\d+)\.")


def names_in_diffusers(name: str) -> tuple[str, ...]:
    """What the rows of an original weight are called in diffusers; nothing for a name that the table has not."""
    found = _BLOCK.search(name)
    block = found[1] if found else ""
    general = _BLOCK.sub(".*.", name, count=1) if name.startswith("blocks.") else name
    module, _, kind = general.rpartition(".")
    if kind in ("weight", "bias"):
        ours = tuple(f"{each}.{kind}" for each in MODULES.get(module, ()))
    else:
        ours = TABLES.get(general, ())
    return tuple(each.replace("*", block) for each in ours)


def pieces_of(entries: Mapping[str, TensorEntry], place: object) -> dict[str, Piece]:
    """Every weight of diffusers' that an original file holds, by its header.

    Raises:
        CheckpointError: a name that the table has not, or rows that cannot be divided.
    """
    found: dict[str, Piece] = {}
    for name, entry in entries.items():
        if name in WITHOUT_USE:
            continue
        ours = names_in_diffusers(name)
        if not ours:
            raise CheckpointError(
                f"{place}: weight {printable(name)} is none of PixArt's transformer; nothing is left out"
            )
        if not entry.shape or entry.shape[0] % len(ours):
            raise CheckpointError(f"{place}: {name} of shape {tuple(entry.shape)} has no {len(ours)} equal shares")
        found |= {each: Piece(name, number, len(ours)) for number, each in enumerate(ours)}
    return found


def configuration_of(entries: Mapping[str, TensorEntry], place: object) -> dict[str, Any]:
    """diffusers' `config.json` of an original file, from the shapes of its weights.

    Raises:
        CheckpointError: a weight is missing that tells a size.
    """

    def shape(name: str, dims: int) -> list[int]:
        if name not in entries or len(entries[name].shape) != dims or 0 in entries[name].shape:
            raise CheckpointError(
                f"{place} has no {name} of {dims} dimensions, which tells sizes of the model; put diffusers'"
                " config.json beside it"
            )
        return entries[name].shape

    width, channels, patch, _ = shape("x_embedder.proj.weight", 4)
    blocks = {int(found[1]) for name in entries if (found := _BLOCK.search(name)) and name.startswith("blocks.")}
    size = isqrt(shape("pos_embed", 3)[1]) * patch
    return {
        "_class_name": "PixArtTransformer2DModel",
        "num_attention_heads": _HEADS,
        "attention_head_dim": width // _HEADS,
        "cross_attention_dim": width,
        "in_channels": channels,
        "out_channels": shape("final_layer.linear.weight", 2)[0] // patch**2,
        "num_layers": len(blocks),
        "patch_size": patch,
        "sample_size": size,
        "interpolation_scale": size / _CELLS_OF_512_PX,
        "caption_channels": shape("y_embedder.y_proj.fc1.weight", 2)[1],
        "use_additional_conditions": "csize_embedder.mlp.0.weight" in entries,
    }


ORIGINAL_FILE = SingleFile(
    is_one=lambda entries: "x_embedder.proj.weight" in entries, pieces=pieces_of, configuration=configuration_of
)
"""A transformer as PixArt's own repository saves it."""

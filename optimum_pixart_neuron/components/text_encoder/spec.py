"""T5, the text encoder: sharded by heads and feed-forward width over all ranks of a pipeline, in every mode."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ...neuron.compiler import OVERLAP, TRANSFORMER_MODEL, VERIFY_HLO, ComponentFlags
from ...parallel.modes import TensorParallel
from ..component import Component, ComputedWeight, Input, Part, Per
from .configuration import T5Configuration
from .sharding import PLAN

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ...deployment.deployment import Deployment
    from ..common.attention_kernel import KernelAttention
    from ..common.original import Original

NAME = "text_encoder"

_BUCKETS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_TABLE = "shared.weight"
_TIED_TABLE = "encoder.embed_tokens.weight"


class _TextEncoder(Component):
    """Always an NxD program: its weights stay out of the archive."""

    name = NAME
    label = "T5"
    colour = "#CC79A7"
    part = Part(
        name=NAME,
        library="transformers",
        class_name="T5EncoderModel",
        weights="model",
        settings=T5Configuration,
        recognize=lambda config: config.get("model_type") == "t5",  # with a decoder or without
        flag_help="Id or folder of a T5 text encoder in place of the model's: a pipeline or itself.",
        released={
            "num_layers": 24,
            "d_model": 4096,
            "num_heads": 64,
            "d_kv": 64,
            "d_ff": 10240,
            "vocab_size": 32128,
            "feed_forward_proj": "gated-gelu",
            "pad_token_id": 0,
        },
    )
    model_type, task = "t5-encoder", "feature-extraction"
    host_config = "T5EncoderForDiffusersNeuronConfig"
    per = Per.PROMPT
    inputs = (Input(name="input_ids", axes=("batch_size", "sequence_length"), dtype="int64"),)
    outputs = ("last_hidden_state",)
    flags = ComponentFlags(model_type=TRANSFORMER_MODEL, sharded=(OVERLAP,), extra=(VERIFY_HLO,))
    plan = PLAN
    own_mode = TensorParallel
    needs_model_builder = True
    blocks = "num_layers"
    repeated = (_TABLE, _TIED_TABLE)
    runs_at_its_bound = True

    def shapes(self, config: dict, deployment: Deployment) -> dict[str, int]:
        return {"batch_size": deployment.batch_size, "sequence_length": deployment.sequence_length}

    def build(
        self, config: dict, shapes: Mapping[str, int], dtype: torch.dtype, kernel: KernelAttention | None = None
    ) -> nn.Module:
        from transformers import T5Config

        from .graph import PixArtTextEncoder

        return PixArtTextEncoder(T5Config.from_dict(config), shapes["sequence_length"], dtype)

    def computed_weights(
        self, config: dict, shapes: Mapping[str, int], stored: Collection[str]
    ) -> dict[str, ComputedWeight]:
        from transformers import T5Config

        from .graph import relative_position_bias

        t5, length = T5Config.from_dict(config), shapes["sequence_length"]
        computed = {
            "position_bias.value": ComputedWeight(
                sources={_BUCKETS: (t5.relative_attention_num_buckets, t5.num_heads)},
                compute=lambda buckets: relative_position_bias(buckets, t5, length),
            )
        }
        if _TABLE not in stored:  # saved under the other name of the tied pair
            sources = {_TIED_TABLE: (t5.vocab_size, t5.d_model)}
            computed[_TABLE] = ComputedWeight(sources=sources, compute=lambda table: table)
        return computed

    def finish_config(self, config: dict) -> None:
        # The stock loader casts the embeddings to this, and diffusers makes the latents in the embeddings' dtype.
        config.pop("torch_dtype", None)
        config["dtype"] = "float32"

    def original(self) -> Original:
        from .original import ORIGINAL

        return ORIGINAL


TEXT_ENCODER = _TextEncoder()

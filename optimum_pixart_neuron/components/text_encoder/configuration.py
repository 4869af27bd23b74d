"""T5's `config.json`."""

from typing import Annotated, Literal

from pydantic import Field

from ..common.configuration import Configuration, Count, Fraction, Rows, Width


class T5Configuration(Configuration):
    """The keys of transformers' `T5Config` (4.57) that its encoder reads."""

    model_type: Literal["t5"]
    vocab_size: Rows
    d_model: Width
    d_kv: Width = 64
    d_ff: Width
    num_layers: Count = 6
    num_heads: Count
    relative_attention_num_buckets: Annotated[int, Field(ge=2, le=1 << 12)] = 32
    relative_attention_max_distance: Annotated[int, Field(ge=2, le=1 << 16)] = 128
    dropout_rate: Fraction = 0.1
    layer_norm_epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: Annotated[str, Field(pattern=r"^(gated-)?(relu|gelu|gelu_new|silu)$")] = "relu"
    dense_act_fn: Literal["relu", "gelu", "gelu_new", "silu"] | None = None
    is_gated_act: bool | None = None
    is_encoder_decoder: bool | None = None
    pad_token_id: Annotated[int, Field(ge=0, lt=1 << 21)] = 0
    eos_token_id: Annotated[int, Field(ge=0, lt=1 << 21)] | None = 1
    tie_word_embeddings: bool | None = None
    use_cache: bool | None = None

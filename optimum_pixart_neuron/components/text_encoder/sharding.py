"""How tensor-parallel ranks divide the text encoder, as data.

The split of the AWS sample (aws-neuron-samples, hf_pretrained_pixart_sigma_1k): attention by heads and feed-forward by
width, so a block reduces twice.
"""

from ...parallel.sharding import Divided, Divisor, ShardingPlan, column, first_dim, replicated, row

PLAN = ShardingPlan(
    component="text_encoder",
    rules=(
        replicated("shared"),
        column("encoder.block.*.layer.0.SelfAttention.{q,k,v}"),
        row("encoder.block.*.layer.0.SelfAttention.o"),
        first_dim("position_bias"),
        column("encoder.block.*.layer.1.DenseReluDense.{wi_0,wi_1}"),
        row("encoder.block.*.layer.1.DenseReluDense.wo"),
        replicated("encoder.block.*.layer.*.layer_norm"),
        replicated("encoder.final_layer_norm"),
    ),
    divided=(Divided(path="encoder.block.*.layer.0.SelfAttention", attributes=("n_heads", "inner_dim")),),
    divisors=(
        Divisor(name="attention heads", key="num_heads"),
        Divisor(name="feed-forward channels", key="d_ff"),
    ),
)

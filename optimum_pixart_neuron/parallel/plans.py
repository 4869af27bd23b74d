"""The tensor-parallel plans of PixArt-Sigma's components, as data.

Both are the split of the AWS sample (aws-neuron-samples, hf_pretrained_pixart_sigma_1k): attention by heads and
feed-forward by width, so a transformer block reduces three times (two attentions, feed-forward) and a T5 block twice.
"""

from .sharding import Divided, Divisor, Placement, Rule, ShardingPlan


def column(path: str) -> Rule:
    """Weight split over its output, bias with it; output stays split."""
    return Rule(path=path, placement=Placement.COLUMN)


def row(path: str) -> Rule:
    """Weight split over its input; partial outputs are all-reduced, the whole bias is added once."""
    return Rule(path=path, placement=Placement.ROW)


def first_dim(path: str) -> Rule:
    """A bare weight split over dim 0."""
    return Rule(path=path, placement=Placement.FIRST_DIM)


def replicated(path: str) -> Rule:
    """Whole on every rank."""
    return Rule(path=path, placement=Placement.REPLICATED)


TEXT_ENCODER_PLAN = ShardingPlan(
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

TRANSFORMER_PLAN = ShardingPlan(
    component="transformer",
    rules=(
        replicated("pos_embed.**"),
        replicated("adaln_single.**"),
        replicated("caption_projection.**"),
        column("transformer_blocks.*.{attn1,attn2}.{to_q,to_k,to_v}"),
        row("transformer_blocks.*.{attn1,attn2}.to_out.0"),
        column("transformer_blocks.*.ff.net.0.proj"),
        row("transformer_blocks.*.ff.net.2"),
        replicated("transformer_blocks.*.scale_shift_table"),
        replicated("scale_shift_table"),
        replicated("proj_out"),
    ),
    divided=(Divided(path="transformer_blocks.*.{attn1,attn2}", attributes=("heads",)),),
    # The feed-forward is 4 x heads x head width channels wide, so what divides the heads divides it.
    divisors=(Divisor(name="attention heads", key="num_attention_heads"),),
)

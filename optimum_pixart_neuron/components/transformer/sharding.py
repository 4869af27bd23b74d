"""How tensor-parallel ranks divide the transformer, as data.

The split of the AWS sample (aws-neuron-samples, hf_pretrained_pixart_sigma_1k): attention by heads and feed-forward by
width, so a block reduces three times: in two attentions and in the feed-forward.
"""

from ...parallel.sharding import Divided, Divisor, ShardingPlan, column, replicated, row

PLAN = ShardingPlan(
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

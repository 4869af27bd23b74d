"""Sharding plans: matching, refusals, and that the shipped plans cover the upstream modules exactly."""

import pytest
import torch
from transformers import T5Config

from optimum_pixart_neuron.components.text_encoder.graph import PixArtTextEncoder
from optimum_pixart_neuron.components.text_encoder.sharding import PLAN as TEXT_ENCODER_PLAN
from optimum_pixart_neuron.components.transformer.sharding import PLAN as TRANSFORMER_PLAN
from optimum_pixart_neuron.errors import InvalidExportOption, ShardingPlanError
from optimum_pixart_neuron.parallel.sharding import Placement, Rule, ShardingPlan, column, replicated, row


def plan(*rules: Rule) -> ShardingPlan:
    return ShardingPlan(component="part", rules=rules)


def test_placements_and_the_row_bias():
    placed = plan(column("block.*.up"), row("block.*.down"), replicated("norm")).placements(
        ["block.0.up.weight", "block.0.up.bias", "block.0.down.weight", "block.0.down.bias", "norm.weight"]
    )
    assert [placement.dim for placement in placed.values()] == [0, 0, 1, None, None]


def test_parameter_without_a_rule():
    with pytest.raises(ShardingPlanError, match="parameter other.weight is matched by no rule"):
        plan(column("block")).placements(["block.weight", "other.weight"])


def test_parameter_with_two_rules():
    with pytest.raises(ShardingPlanError, match=r"parameter block.0.up.weight is matched by block.\*.up, block.\*\*"):
        plan(column("block.*.up"), replicated("block.**")).placements(["block.0.up.weight"])


def test_rule_without_a_parameter():
    with pytest.raises(ShardingPlanError, match="rule gone matches no parameter"):
        plan(column("block"), row("gone")).placements(["block.weight"])


def test_transformer_plan_covers_xl_2():
    from optimum_pixart_neuron.components.transformer.graph import PixArtTransformer

    with torch.device("meta"):
        model = PixArtTransformer.build(
            {"caption_channels": 4096, "sample_size": 128, "use_additional_conditions": False},
            latent_height=128,
            latent_width=128,
            dtype=torch.bfloat16,
        )
    placed = TRANSFORMER_PLAN.placements([name for name, _ in model.named_parameters()])
    split = [name for name, placement in placed.items() if placement is not Placement.REPLICATED]
    # Per block: q, k, v and out of two attentions and the feed-forward's two layers; weights, and biases of columns.
    assert len(split) == 28 * (2 * (3 * 2 + 1) + 2 + 1)


def test_text_encoder_plan_covers_t5_xxl():
    config = T5Config(
        d_model=4096,
        d_kv=64,
        num_heads=64,
        d_ff=10240,
        num_layers=24,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )
    with torch.device("meta"):
        model = PixArtTextEncoder(config, sequence_length=300, dtype=torch.bfloat16)
    placed = TEXT_ENCODER_PLAN.placements([name for name, _ in model.named_parameters()])
    split = [name for name, placement in placed.items() if placement is not Placement.REPLICATED]
    assert len(split) == 24 * 7 + 1


@pytest.mark.parametrize(
    ("shard_plan", "config", "ranks", "message"),
    [
        (
            TRANSFORMER_PLAN,
            {"num_attention_heads": 16},
            3,
            "3 does not divide the 16 attention heads of the transformer",
        ),
        (
            TEXT_ENCODER_PLAN,
            {"num_heads": 64, "d_ff": 10248},
            16,
            "16 does not divide the 10248 feed-forward channels of the text_encoder",
        ),
    ],
)
def test_ranks_that_do_not_divide(shard_plan, config, ranks, message):
    with pytest.raises(InvalidExportOption, match=f"--tensor_parallel_size {message}"):
        shard_plan.check(config, ranks)
    shard_plan.check(config, 2)

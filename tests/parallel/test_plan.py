"""Sharding plans: matching, refusals, and that the shipped plans cover the upstream modules exactly."""

import pytest
import torch
from transformers import T5Config

from optimum_pixart_neuron.components.text_encoder.graph import PixArtTextEncoder
from optimum_pixart_neuron.components.text_encoder.sharding import PLAN as TEXT_ENCODER_PLAN
from optimum_pixart_neuron.components.transformer.sharding import PLAN as TRANSFORMER_PLAN
from optimum_pixart_neuron.errors import InvalidExportOption, ShardingPlanError
from optimum_pixart_neuron.parallel.sharding import Placement, Rule, ShardingPlan, column, replicated, row

from .traces import XL_2, on_meta


def plan(*rules: Rule) -> ShardingPlan:
    return ShardingPlan(component="part", rules=rules)


def test_placements_and_the_row_bias():
    placed = plan(column("block.*.up"), row("block.*.down"), replicated("norm")).placements(
        ["block.0.up.weight", "block.0.up.bias", "block.0.down.weight", "block.0.down.bias", "norm.weight"]
    )
    assert [placement.dim for placement in placed.values()] == [0, 0, 1, None, None]


@pytest.mark.parametrize(
    ("rules", "parameter", "message"),
    [
        ([column("block")], "other.weight", "parameter other.weight is matched by no rule"),
        ([column("block.*.up"), replicated("block.**")], "block.0.up.weight", r"matched by block.\*.up, block.\*\*"),
        ([column("block"), row("gone")], "block.weight", "rule gone matches no parameter"),
    ],
)
def test_rules_that_do_not_match_one_to_one(rules, parameter, message):
    with pytest.raises(ShardingPlanError, match=message):
        plan(*rules).placements([parameter])


def split_weights(plan: ShardingPlan, model: torch.nn.Module) -> int:
    placed = plan.placements([name for name, _ in model.named_parameters()])
    return sum(placement is not Placement.REPLICATED for placement in placed.values())


def test_transformer_plan_covers_xl_2():
    # Per block: q, k, v and out of two attentions and the feed-forward's two layers; weights, and biases of columns.
    assert split_weights(TRANSFORMER_PLAN, on_meta(XL_2, torch.bfloat16)) == 28 * (2 * (3 * 2 + 1) + 2 + 1)


def test_text_encoder_plan_covers_t5_xxl():
    sizes = {"d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24, "vocab_size": 32128}
    config = T5Config(**sizes, feed_forward_proj="gated-gelu")
    with torch.device("meta"):
        model = PixArtTextEncoder(config, sequence_length=300, dtype=torch.bfloat16)
    assert split_weights(TEXT_ENCODER_PLAN, model) == 24 * 7 + 1


@pytest.mark.parametrize(
    ("shard_plan", "config", "ranks", "message"),
    [
        (TRANSFORMER_PLAN, {"num_attention_heads": 16}, 3, "3 does not divide the 16 attention heads of the trans"),
        (TEXT_ENCODER_PLAN, {"num_heads": 64, "d_ff": 10248}, 16, "16 does not divide the 10248 feed-forward"),
    ],
)
def test_ranks_that_do_not_divide(shard_plan, config, ranks, message):
    with pytest.raises(InvalidExportOption, match=f"--tensor_parallel_size {message}"):
        shard_plan.check(config, ranks)
    shard_plan.check(config, 2)

"""Cutting checkpoints: what each rank gets, byte for byte, and what is passed over in silence."""

import pytest
import torch
from neuronx_distributed.parallel_layers import parallel_state
from neuronx_distributed.parallel_layers.layers import (
    ColumnParallelLinear,
    OutputChannelParallelConv2d,
    ParallelEmbedding,
    RowParallelLinear,
    SPMDRank,
)
from neuronx_distributed.parallel_layers.utils import set_tensor_model_parallel_attributes
from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder
from safetensors.torch import load_file
from torch import nn


def shard(build, checkpoint, tp=2, path=None):
    builder = ModelBuilder(None, tp, lambda: dict(checkpoint))
    builder.add("model", BaseModelInstance(build, {}), [(torch.ones(1),)])
    return builder.shard_checkpoint(path)


def rows(count, width=1):
    return torch.arange(count, dtype=torch.float32)[:, None].expand(count, width).contiguous()


def test_column_row_and_rank(tmp_path):
    def build():
        up, gathered = ColumnParallelLinear(3, 4, gather_output=False), ColumnParallelLinear(3, 4)
        down = RowParallelLinear(4, 3, input_is_parallel=True)
        rest = {"rank": SPMDRank(2), "norm": nn.LayerNorm(3)}
        return nn.ModuleDict({"up": up, "gathered": gathered, "down": down, **rest})

    whole = {
        "up.weight": rows(4, 3),
        "up.bias": torch.arange(4.0),
        "gathered.weight": rows(4, 3),
        "gathered.bias": torch.arange(4.0),
        "down.weight": rows(4, 3).T,
        "down.bias": torch.arange(3.0),
        "rank.rank": torch.arange(2, dtype=torch.int32),
        "norm.weight": torch.arange(3.0),
    }
    shards = shard(build, whole, path=str(tmp_path / "weights"))
    for rank, mine in enumerate(shards):
        half = slice(2 * rank, 2 * rank + 2)
        expected = {
            "up.weight": whole["up.weight"][half],
            "up.bias": whole["up.bias"][half],
            "gathered.weight": whole["gathered.weight"][half],
            "gathered.bias": whole["gathered.bias"],
            "down.weight": whole["down.weight"][:, half],
            "down.bias": whole["down.bias"],
            "rank.rank": torch.tensor([rank], dtype=torch.int32),
            "norm.weight": whole["norm.weight"],
        }
        saved = load_file(tmp_path / "weights" / f"tp{rank}_sharded_checkpoint.safetensors")
        assert mine.keys() == expected.keys() == saved.keys()
        for name, tensor in expected.items():
            assert torch.equal(mine[name], tensor) and torch.equal(saved[name], tensor), name
    assert not parallel_state.model_parallel_is_initialized()


def fused_qkv():
    layer = ColumnParallelLinear(1, 8, bias=False, gather_output=False)
    layer.weight.fused_qkv = True
    layer.weight.num_attention_heads, layer.weight.num_key_value_heads, layer.weight.head_dim = 4, 2, 1
    return layer


LOWEST = torch.finfo(torch.float32).min
CUTS = {
    "every second chunk": (
        4,
        lambda: ColumnParallelLinear(1, 4, bias=False, gather_output=False, stride=2),
        {"weight": ([0, 2], [1, 3])},
    ),
    "part by part": (8, fused_qkv, {"weight": ([0, 1, 4, 6], [2, 3, 5, 7])}),
    "an order of ranks maps the second parameter twice": (
        2,
        lambda: ColumnParallelLinear(1, 2, gather_output=False, rank_ordering=[1, 0]),
        {"weight": ([1], [0]), "bias": ([0], [1])},
    ),
    "padded columns": (
        3,
        lambda: ColumnParallelLinear(1, 3, pad=True, gather_output=False),
        {"weight": ([0, 1], [2, 0]), "bias": ([0, 1], [2, LOWEST])},
    ),
    "padded words": (3, lambda: ParallelEmbedding(3, 1, pad=True), {"weight": ([0, 1], [2, 0])}),
    "padded rows": (3, lambda: RowParallelLinear(3, 1, bias=False, pad=True), {"weight": ([0, 1], [2, 0])}),
}


@pytest.mark.parametrize("case", CUTS)
def test_what_each_of_two_ranks_gets(case):
    """Of weights that are numbered along the dimension that is cut."""
    count, build, expected = CUTS[case]
    weight = rows(count).T if case == "padded rows" else rows(count)
    whole = {"weight": weight, "bias": torch.arange(float(count))}
    shards = shard(build, {name: whole[name] for name in expected})
    assert {name: tuple(mine[name].flatten().tolist() for mine in shards) for name in expected} == expected


def test_marks_on_plain_modules_are_ignored():
    def build():
        plain = nn.Linear(2, 4, bias=False)
        set_tensor_model_parallel_attributes(plain.weight, True, 0, 1, 2)
        return plain

    assert all(mine["weight"].shape == (4, 2) for mine in shard(build, {"weight": torch.ones(4, 2)}))


def test_marks_before_registering_fail_under_meta():
    def build():
        weight = nn.Parameter(torch.ones(4))
        set_tensor_model_parallel_attributes(weight, True, 0, 1, 2)
        return nn.ParameterList([weight])

    with pytest.raises(TypeError, match="tensor_model_parallel"):
        shard(build, {})
    assert parallel_state.model_parallel_is_initialized(), "NxD's builder has no `finally`"
    parallel_state.destroy_model_parallel()
    assert nn.Linear(1, 1).weight.device.type == "cpu"


def test_missing_entries_are_silent_and_redundant_ones_are_dropped():
    with pytest.warns(UserWarning, match="not have: \\['extra'\\]"):
        shards = shard(lambda: ColumnParallelLinear(1, 2), {"bias": torch.ones(2), "extra": torch.ones(1)})
    assert [list(mine) for mine in shards] == [["bias"], ["bias"]]


def test_a_wrong_size_is_an_error():
    with pytest.raises(RuntimeError, match=r"weight: expected shape \(1, 3\), found \(2, 3\)"):
        shard(lambda: ColumnParallelLinear(3, 2, bias=False), {"weight": torch.ones(4, 3)})
    with pytest.raises(RuntimeError, match="bias: expected shape"):  # NxD does not mark it under meta
        shard(lambda: OutputChannelParallelConv2d(1, 2, 1), {"bias": torch.ones(2)})


def test_a_padded_row_layer_has_no_bias():
    with pytest.raises(IndexError):
        shard(lambda: RowParallelLinear(3, 1, pad=True), {"weight": rows(3).T, "bias": torch.ones(1)})


def test_the_outermost_hook_hides_the_ones_inside():
    class Outer(nn.Module):
        add_bias = True

        def __init__(self):
            super().__init__()
            self.inner = ColumnParallelLinear(1, 3, bias=False, pad=True)

        def preshard_hook(self, checkpoint, prefix):
            seen.append(prefix)

    seen = []
    with pytest.raises(RuntimeError, match="expected shape"):
        shard(lambda: nn.ModuleDict({"outer": Outer()}), {"outer.inner.weight": rows(3)})
    assert seen == ["outer.weight", "outer.bias"]


def test_parameters_are_cast_and_buffers_are_not():
    def build():
        layer = ColumnParallelLinear(2, 4, bias=False, dtype=torch.bfloat16)
        layer.register_buffer("table", torch.zeros(2, dtype=torch.bfloat16))
        return layer

    mine = shard(build, {"weight": torch.ones(4, 2), "table": torch.ones(2)})[0]
    assert (mine["weight"].dtype, mine["table"].dtype) == (torch.bfloat16, torch.float32)


def test_the_loader_runs_inside_the_state_and_modules_it_builds_are_on_meta():
    def load():
        seen.append((parallel_state.get_tensor_model_parallel_size(), nn.Linear(1, 1).weight.device.type))
        return {"weight": torch.ones(2, 1)}

    seen = []
    builder = ModelBuilder(None, 2, load, init_custom_process_group_fn=lambda: seen.append("groups"))
    builder.add("model", BaseModelInstance(lambda: ColumnParallelLinear(1, 2, bias=False), {}), [(torch.ones(1),)])
    builder.shard_checkpoint()
    assert seen == ["groups", (2, "meta")]


def test_only_local_ranks_are_cut(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    ranks = {"rank": torch.arange(4, dtype=torch.int32)}
    builder = ModelBuilder(None, 4, lambda: ranks, 2, world_size=4, local_ranks_size=2)
    builder.add("model", BaseModelInstance(lambda: SPMDRank(4), {}), [(torch.ones(1),)])
    assert [mine["rank"].item() for mine in builder.shard_checkpoint()] == [2, 3]


def test_shared_memory_cannot_be_saved(tmp_path, caplog):
    def build():
        return nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in ("one", "two")})

    tied = torch.ones(2, 2)
    with pytest.raises(RuntimeError, match="share memory"):
        shard(build, {"one.weight": tied, "two.weight": tied}, path=str(tmp_path))
    assert "one.weight and two.weight share memory" in caplog.text

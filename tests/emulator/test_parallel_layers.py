"""Layers and mappings of the emulated NxD: shapes, attributes, and what two real ranks compute with them."""

import pytest
import torch
import torch.nn.functional as F
from neuronx_distributed.parallel_layers import mappings, pad, parallel_state
from neuronx_distributed.parallel_layers.layer_norm import LayerNorm
from neuronx_distributed.parallel_layers.layers import (
    BaseParallelLinear,
    ColumnParallelLinear,
    InputChannelParallelConv2d,
    OutputChannelParallelConv2d,
    ParallelEmbedding,
    RowParallelLinear,
    SPMDRank,
)
from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder
from torch import nn

from optimum_pixart_neuron.aten_graph import trace_graph
from tests.emulator.nxd_scenarios import parallel
from tests.emulator.programs import Calls


@pytest.mark.parametrize(
    ("build", "shape", "marks"),
    [
        (lambda: ColumnParallelLinear(6, 8), (4, 6), (True, 0, 1, 2)),
        (lambda: ColumnParallelLinear(6, 8, stride=2), (4, 6), (True, 0, 2, 2)),
        (lambda: RowParallelLinear(6, 8), (8, 3), (True, 1, 1, 2)),
        (lambda: ParallelEmbedding(10, 4), (5, 4), (True, 0, 1, 2)),
        (lambda: ParallelEmbedding(10, 4, shard_across_embedding=True), (10, 2), (True, 1, 1, 2)),
        (lambda: OutputChannelParallelConv2d(3, 4, 3), (2, 3, 3, 3), (True, 0, 1, 2)),
        (lambda: InputChannelParallelConv2d(4, 3, (1, 3)), (3, 2, 1, 3), (True, 1, 1, 2)),
    ],
)
def test_weights_have_the_shape_and_the_marks_of_a_shard(build, shape, marks):
    for meta in (False, True):
        with parallel(2, meta=meta):
            weight = build().weight
        assert tuple(weight.shape) == shape
        assert weight.is_meta is meta
        found = weight.tensor_model_parallel, weight.partition_dim, weight.partition_stride, weight.num_partitions
        assert found == marks


def test_spmd_rank_is_an_int32_weight_split_over_the_world():
    with parallel(2, 4):
        rank = SPMDRank(4).get_rank()
    assert (rank.dtype, tuple(rank.shape), rank.num_partitions, rank.requires_grad) == (torch.int32, (1,), 4, False)


def test_arguments_are_kept_under_the_names_that_other_code_reads():
    with parallel(2):
        column = ColumnParallelLinear(6, 8, gather_output=False, dtype=torch.bfloat16)
        row = RowParallelLinear(8, 6, reduce_dtype=torch.bfloat16, bias=False)
    assert isinstance(column, BaseParallelLinear) and isinstance(row, BaseParallelLinear)
    assert (column.output_size_per_partition, column.weight_partition_dim, column.add_bias) == (4, 0, True)
    assert (column.reduce_dtype, column.dtype) == (torch.float32, torch.bfloat16)
    assert (row.input_size_per_partition, row.weight_partition_dim, row.add_bias) == (4, 1, False)
    assert (row.reduce_dtype, row.bias) == (torch.bfloat16, None)
    assert tuple(column.bias.shape) == (4,) and column.tensor_parallel_group.size() == 2


def test_sizes_that_do_not_divide_name_both_numbers():
    for build in (
        lambda: ColumnParallelLinear(4, 7),
        lambda: RowParallelLinear(7, 4),
        lambda: ParallelEmbedding(7, 4),
    ):
        with parallel(2), pytest.raises(AssertionError, match="7 is not divisible by 2"):
            build()


def test_initial_values_do_not_depend_on_the_number_of_ranks():
    weights = {}
    for tp in (1, 2):
        with parallel(tp, aot=False):
            torch.manual_seed(0)
            weights[tp] = ColumnParallelLinear(6, 8, bias=False).weight
    assert torch.equal(weights[2], weights[1][:4])


def test_a_traced_module_draws_no_values_and_names_its_weight_twice():
    state = torch.get_rng_state()
    with parallel(2):
        layer = ColumnParallelLinear(6, 8, bias=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.master_weight is layer.weight and [name for name, _ in layer.named_parameters()] == ["weight"]


def test_padding_is_for_inference():
    for build in (lambda: ColumnParallelLinear(4, 7, pad=True), lambda: ParallelEmbedding(7, 4, pad=True)):
        with parallel(2), pytest.raises(RuntimeError, match="call eval"):
            build()(torch.zeros(1, 4))


def test_weights_live_on_cpu_or_meta_only():
    device = torch.device("xla")
    for build in (
        lambda: ColumnParallelLinear(4, 8, device=device),
        lambda: ParallelEmbedding(8, 4, device=device),
        lambda: OutputChannelParallelConv2d(3, 4, 3, device=device),
    ):
        with parallel(2), pytest.raises(RuntimeError, match="built on cpu or meta, not on xla"):
            build()


def graph_calls(module, *inputs):
    graph = trace_graph(module.eval(), inputs).graph_module.graph
    return [node for node in graph.nodes if node.op == "call_function" and "neuron_emulator" in str(node.target)]


@pytest.mark.parametrize("reduce_dtype", [torch.float32, torch.bfloat16])
def test_the_sum_of_a_row_layer_runs_in_reduce_dtype(reduce_dtype):
    options = {} if reduce_dtype == torch.float32 else {"reduce_dtype": reduce_dtype}
    with parallel(2):
        row = RowParallelLinear(8, 6, input_is_parallel=True, dtype=torch.bfloat16, **options)
        (call,) = graph_calls(row, torch.zeros(3, 4, dtype=torch.bfloat16))
    assert call.meta["val"].dtype == reduce_dtype
    assert call.args[-2:] == ([0, 1], 2)


def test_collectives_carry_the_whole_mesh_and_groups_of_one_have_none():
    def gathers(mesh):
        group = torch.distributed.new_group(mesh[0], {"xla_pg_options": {"mesh": mesh}})
        gather = mappings.gather_from_tensor_model_parallel_region_with_dim
        return graph_calls(Calls(lambda x: gather(x, 1, process_group=group)), torch.zeros(2, 3))

    with parallel(8):
        (call,) = gathers([[0, 1, 2, 3], [4, 5, 6, 7]])
        assert call.args[-2:] == (list(range(8)), 4)
        assert gathers([[rank] for rank in range(8)]) == []


def test_an_uneven_scatter_is_refused():
    with parallel(2):
        with pytest.raises(RuntimeError, match="does not divide by 2"):
            mappings.reduce_scatter_to_sequence_parallel_region(torch.zeros(3, 2))
        with pytest.raises(AssertionError, match="not a multiple of the group size 2"):
            mappings.scatter_to_process_group_spmd(torch.zeros(3, 2), 0, torch.tensor([0]))


def test_layer_norm_is_torchs():
    norm, x = LayerNorm(6, bias=False, sequence_parallel_enabled=True), torch.randn(2, 6)
    torch.testing.assert_close(norm(x), F.layer_norm(x, (6,), norm.weight))
    assert norm.weight.sequence_parallel_enabled and norm.bias is None


def test_extra_heads_and_padded_shards():
    assert [pad.get_number_of_extra_heads(heads, 4) for heads in (4, 5, 16)] == [0, 3, 0]
    with parallel(2):
        layer = ColumnParallelLinear(2, 6, gather_output=False)
        pad.pad_model(layer, 2, 3)
    assert tuple(layer.weight.shape) == (4, 2) and not layer.weight[3:].any() and layer.bias[3] == 0


class OnRanks(nn.Module):
    """Right and wrong ways side by side; the wrong ones take rank 0's constant on every rank."""

    def __init__(self):
        super().__init__()
        self.up = ColumnParallelLinear(6, 8, gather_output=False)
        self.down = RowParallelLinear(8, 6, input_is_parallel=True)
        self.gathered = ColumnParallelLinear(6, 8)
        self.splitting_row = RowParallelLinear(6, 4)
        self.embedding = ParallelEmbedding(10, 6, use_spmd_rank=True)
        self.constant_embedding = ParallelEmbedding(10, 6)
        self.wide_embedding = ParallelEmbedding(10, 6, shard_across_embedding=True)
        self.rank = SPMDRank(2)

    def forward(self, x, ids):
        part = mappings.scatter_to_process_group_spmd(x, 0, self.rank.get_rank())
        constant = x * parallel_state.get_tensor_model_parallel_rank()
        return {
            "pair": self.down(self.up(x)),
            "gathered": self.gathered(x),
            "row that splits": self.splitting_row(x),
            "embedding": self.embedding(ids),
            "constant embedding": self.constant_embedding(ids),
            "wide embedding": self.wide_embedding(ids),
            "parts": mappings.gather_from_tensor_model_parallel_region_with_dim(part, 0),
            "constant": mappings.reduce_from_tensor_model_parallel_region(constant),
            "rank": mappings.gather_from_tensor_model_parallel_region(self.rank.get_rank().float()),
        }


@pytest.mark.ranks
def test_two_ranks_compute_what_the_whole_weights_compute(tmp_path):
    """Sums of two fp32 products of eight terms: only their order differs from the dense reference, hence 1e-5."""
    torch.manual_seed(0)
    with parallel(1, aot=False):
        whole = {
            name: torch.randn_like(tensor) for name, tensor in OnRanks().state_dict().items() if "rank" not in name
        }
    whole |= {name: torch.arange(2, dtype=torch.int32) for name in ("rank.rank", "embedding.rank_util.rank")}
    x, ids = torch.randn(4, 6), torch.tensor([[1, 4, 5], [9, 0, 7]])
    builder = ModelBuilder(None, 2, lambda: dict(whole), compiler_workdir=str(tmp_path / "work"))
    builder.add("model", BaseModelInstance(lambda: OnRanks().eval(), {}), [(x, ids)])
    outputs = builder.trace()(x, ids)

    def linear(name, value):
        return F.linear(value, whole[f"{name}.weight"], whole[f"{name}.bias"])

    expected = {
        "pair": linear("down", linear("up", x)),
        "gathered": linear("gathered", x),
        "embedding": whole["embedding.weight"][ids],
        "wide embedding": whole["wide_embedding.weight"][ids],
        "parts": x,
        "constant": torch.zeros(4, 6),
        "rank": torch.tensor([0.0, 1.0]),
        # both ranks multiply the first half of x with their half of the weight, and know only the first five words
        "row that splits": F.linear(torch.cat([x[:, :3]] * 2, 1), whole["splitting_row.weight"])
        + whole["splitting_row.bias"],
        "constant embedding": (ids < 5)[..., None]
        * (whole["constant_embedding.weight"][ids % 5] + whole["constant_embedding.weight"][5 + ids % 5]),
    }
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            outputs[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )

"""What the real NxD and the emulated one are asked, through the import names they share; see `test_nxd_parity`.

Each `scenario_*` returns a dict of plain values that two processes can compare.
"""

import os
import sys
from contextlib import ExitStack, contextmanager
from itertools import product

import torch
from torch import nn


def attempt(function, *args, **kwargs):
    """The result, or the exception's type: texts are free to differ."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error).__name__


def plain(value):
    """Tensors as (dtype, shape, bytes), which compare exactly, NaN and bfloat16 included."""
    if isinstance(value, torch.Tensor):
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), raw
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


@contextmanager
def parallel(tp, world=None, meta=False, aot=True, **sizes):
    """Rank 0 of a world of `tp` ranks, built as ModelBuilder builds modules."""
    from neuronx_distributed.parallel_layers import parallel_state
    from neuronx_distributed.trace.mock_torchdist import mock_distributed
    from neuronx_distributed.utils.model_utils import init_on_device

    with ExitStack() as stack:
        stack.enter_context(mock_distributed(world_size=world or tp))
        torch.distributed.init_process_group("xla", rank=0, world_size=world or tp)
        stack.callback(torch.distributed.destroy_process_group)
        stack.callback(parallel_state.destroy_model_parallel)
        parallel_state.initialize_model_parallel(tp, skip_collective_init=True, **sizes)
        if meta:
            stack.enter_context(init_on_device(torch.device("meta"), force_custom_init_on_device=True))
        parallel_state.set_aot_mode(aot)
        stack.callback(parallel_state.set_aot_mode, False)
        yield parallel_state


def fused_qkv(tp):
    from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear

    layer = ColumnParallelLinear(6, 64, bias=False, gather_output=False)
    layer.weight.fused_qkv = True
    layer.weight.num_attention_heads, layer.weight.num_key_value_heads, layer.weight.head_dim = 16, 8, 2
    return layer


class Hooked(nn.Module):
    """Its own hook ends the search for hooks: the padded layer inside is not padded."""

    def __init__(self):
        from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear

        super().__init__()
        self.inner = ColumnParallelLinear(4, 10, pad=True)

    def preshard_hook(self, checkpoint, prefix):
        checkpoint["seen"] = torch.zeros(1)


class Nested(nn.Module):
    """Plain parameters with marks, a nested parallel layer, a buffer, a tie and other dtypes."""

    def __init__(self, tp):
        from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear, RowParallelLinear, SPMDRank
        from neuronx_distributed.parallel_layers.utils import set_tensor_model_parallel_attributes

        super().__init__()
        self.up = ColumnParallelLinear(8, 16, gather_output=False, dtype=torch.bfloat16)
        self.down = RowParallelLinear(16, 8, input_is_parallel=True, dtype=torch.bfloat16)
        self.up.nested = ColumnParallelLinear(8, 16, bias=False)
        self.again = self.up
        self.plain = nn.Linear(8, 8)
        set_tensor_model_parallel_attributes(self.plain.weight, True, 0, 1, tp)
        self.register_buffer("table", torch.zeros(3))
        self.register_buffer("hidden", torch.zeros(3), persistent=False)
        self.rank_util = SPMDRank(tp)
        self.rank_util.bias = nn.Parameter(torch.zeros(8 // tp, 2))
        set_tensor_model_parallel_attributes(self.rank_util.bias, True, 0, 1, num_partitions=tp)


def modules():
    """Name -> constructor of tp."""
    from neuronx_distributed.parallel_layers import layer_norm, layers

    column, row, embedding = layers.ColumnParallelLinear, layers.RowParallelLinear, layers.ParallelEmbedding
    output, input = layers.OutputChannelParallelConv2d, layers.InputChannelParallelConv2d

    def backwards(tp):
        return list(reversed(range(tp)))

    return {
        "column": lambda tp: column(6, 16),
        "column split": lambda tp: column(6, 16, gather_output=False),
        "column no bias": lambda tp: column(6, 16, bias=False),
        "column stride 2": lambda tp: column(6, 16, gather_output=False, stride=2),
        "column bf16": lambda tp: column(6, 16, gather_output=False, dtype=torch.bfloat16, keep_master_weight=True),
        "column pad": lambda tp: column(6, 10, pad=True),
        "column pad split": lambda tp: column(6, 10, pad=True, gather_output=False, pad_alignment_size_per_rank=2),
        "column indivisible": lambda tp: column(6, 12),
        "column ordered": lambda tp: column(6, 16, bias=False, rank_ordering=backwards(tp)),
        "column ordering short": lambda tp: column(6, 16, rank_ordering=[0]),
        "column skip bias": lambda tp: column(6, 16, skip_bias_add=True, reduce_dtype=None),
        "column fused qkv": fused_qkv,
        "column sequence": lambda tp: column(6, 16, gather_output=False, sequence_parallel_enabled=True),
        "row": lambda tp: row(16, 6),
        "row parallel": lambda tp: row(16, 6, input_is_parallel=True, reduce_dtype=torch.bfloat16),
        "row no bias": lambda tp: row(16, 6, bias=False, stride=2),
        "row pad": lambda tp: row(10, 6, bias=False, pad=True),
        "row ordered": lambda tp: row(16, 6, bias=False, rank_ordering=backwards(tp)),
        "row sequence": lambda tp: row(16, 6, sequence_parallel_enabled=True),
        "embedding": lambda tp: embedding(16, 8),
        "embedding rank": lambda tp: embedding(16, 8, use_spmd_rank=True, padding_idx=3),
        "embedding width": lambda tp: embedding(16, 8, shard_across_embedding=True, dtype=torch.bfloat16),
        "embedding pad": lambda tp: embedding(13, 8, pad=True, padding_idx=9),
        "embedding width pad": lambda tp: embedding(16, 6, shard_across_embedding=True, pad=True),
        "embedding ordered": lambda tp: embedding(16, 8, rank_ordering=backwards(tp)),
        "rank": lambda tp: layers.SPMDRank(tp),
        "rank table": lambda tp: layers.SPMDRank(8 * tp),
        "conv out": lambda tp: output(3, 8, 3, bias=False, padding=1),
        "conv out bias": lambda tp: output(3, 8, (3, 1)),
        "conv out pad": lambda tp: output(3, 5, 3, bias=False, partition_pad=True),
        "conv in": lambda tp: input(8, 3, 3, stride=2, input_is_parallel=True),
        "conv in pad": lambda tp: input(5, 3, 3, bias=False, partition_pad=True),
        "conv dilated": lambda tp: input(8, 3, 3, dilation=2),
        "conv list": lambda tp: output(3, 8, [3, 3]),
        "layer norm": lambda tp: layer_norm.LayerNorm(8, bias=False, sequence_parallel_enabled=True),
        "nested": Nested,
        "hooked": lambda tp: Hooked(),
        "column ordered bias": lambda tp: column(6, 16, gather_output=False, rank_ordering=backwards(tp)),
        "row pad bias": lambda tp: row(10, 6, pad=True),
    }


MARKS = ("tensor_model_parallel", "partition_dim", "partition_stride", "num_partitions", "rank_ordering")
ATTRIBUTES = (
    "input_size output_size add_bias gather_output rank_ordering pad pad_size output_size_per_partition dtype stride "
    "keep_master_weight skip_bias_add bias_shape weight_shape weight_partition_dim bias_partition_dim reduce_dtype "
    "sequence_parallel_enabled sequence_dimension async_tensor_model_parallel_allreduce input_is_parallel tile_cc "
    "reduce_output input_size_per_partition keep_padded_output num_embeddings embedding_dim padding_idx start_index "
    "end_index num_embeddings_per_partition embedding_dim_per_partition per_partition_size tensor_model_parallel_size "
    "shard_across_embedding sequence_dim in_channels out_channels kernel_size padding partition_dim "
    "channels_per_partition partition_pad partition_pad_size keep_master_params world_size"
).split()


def describe(module):
    """Parameters and buffers with dtype, shape and marks; attributes of every layer."""
    state = {
        name: (str(tensor.dtype), tuple(tensor.shape), str(tensor.device), tensor.requires_grad)
        for name, tensor in module.state_dict(keep_vars=True).items()
    }
    marks = {
        name: {mark: getattr(parameter, mark, "unset") for mark in (*MARKS, "sequence_parallel_enabled")}
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }
    attributes = {
        name: {key: getattr(layer, key) for key in ATTRIBUTES if hasattr(layer, key)}
        for name, layer in module.named_modules(remove_duplicate=False)
    }
    return {"state": state, "marks": marks, "attributes": attributes}


def checkpoint_of(build, tp):
    """A whole float32 checkpoint with distinct values, one redundant entry, and tables for ranks."""
    with parallel(1):
        whole = build(1).state_dict()
    result = {"not.in.model": torch.ones(2)}
    for index, (name, tensor) in enumerate(whole.items()):
        if name.endswith("master_weight"):
            continue
        values = torch.arange(tensor.numel(), dtype=torch.float32).reshape(tensor.shape) / 7 + 100 * index
        result[name] = values
        if name.endswith("rank"):
            result[name] = torch.arange(8 * tp, dtype=torch.int32).flip(0)[: 8 * tp if tensor.numel() > 1 else tp]
    return result


def shard(build, tp, drop=None):
    from neuronx_distributed.trace.trace import get_sharded_checkpoint, preprocess_checkpoint

    checkpoint = checkpoint_of(build, tp)
    checkpoint.pop(drop, None)
    with parallel(tp, meta=True, aot=False):
        model = build(tp)
        if "rank" in checkpoint and model.rank.num_partitions == 8 * tp:  # a table longer than the group
            checkpoint["rank"] = torch.arange(8 * tp, dtype=torch.int32)
        preprocess_checkpoint(model, checkpoint)
        shards = []
        for rank in range(tp):
            mine = dict(checkpoint)
            get_sharded_checkpoint(mine, model, rank, tp, is_cached=True)
            shards.append(mine)
    return plain(shards)


def build_values(build, tp):
    """What a module built outside a trace is filled with: the same draws from the same generator."""
    with parallel(tp, aot=False):
        torch.manual_seed(5)
        return plain(dict(build(tp).state_dict()))


def described(build, tp, **how):
    with parallel(tp, **how):
        return describe(build(tp))


def scenario_modules():
    results = {}
    for tp in (1, 2, 4, 8):
        os.environ["LOCAL_WORLD_SIZE"] = str(tp)  # read at tp 4 on trn1
        for name, build in modules().items():
            key = f"{name}, tp {tp}"
            results[f"{key}: as traced"] = attempt(described, build, tp)
            results[f"{key}: on meta"] = attempt(described, build, tp, meta=True, aot=False)
            results[f"{key}: values"] = attempt(build_values, build, tp)
            results[f"{key}: shards"] = attempt(shard, build, tp)
            results[f"{key}: shards without weight"] = attempt(shard, build, tp, drop="weight")
    return results


def groups_of(world, tp, target, **options):
    from neuronx_distributed.parallel_layers import parallel_state

    parallel_state.get_platform_target = lambda: target
    with parallel(tp, world, **options) as state:
        names = ("tensor_model", "data", "pipeline_model", "context_model", "expert_model", "expert_data")
        meshes = {name: getattr(state, f"get_{name}_parallel_group")(as_list=True) for name in names}
        sizes = {name: getattr(state, f"get_{name}_parallel_size")() for name in names}
        ranks = {name: getattr(state, f"get_{name}_parallel_rank")() for name in names}
        world_mesh = state.get_world_group(as_list=True)
        only = state.initialize_model_parallel(tp, mesh_only=True, skip_collective_init=True, **options)
        stage_group = state.create_pg_with_ranks([0])._mesh
        kv = {}
        for sequential in (False, True):
            attempt(state.initialize_kv_group, 2, sequential)
            kv[sequential] = attempt(state.get_kv_shared_group, as_list=True)
            kv[f"{sequential} again"] = attempt(state.initialize_kv_group, 1)
            state.destroy_kv_group()
        return meshes, sizes, ranks, world_mesh, only._asdict(), stage_group, kv


def scenario_groups():
    results = {}
    chosen = (
        {},
        {"lnc_size": 2},
        {"pipeline_model_parallel_size": 2},
        {"context_parallel_size": 2, "lnc_size": 2},
        {"expert_model_parallel_size": 2},
    )
    targets, worlds = ("trn1", "inf2", "trn2", "trn9"), (1, 2, 4, 6, 8, 32, 64, 128)
    groups, locals_ = (1, 2, 4, 8, 32, 64), (None, 4, 8, 128)
    for target, world, tp, options, local in product(targets, worlds, groups, chosen, locals_):
        if local is not None and min(tp, world) != 4 and target != "trn2":
            continue  # not read
        os.environ.pop("LOCAL_WORLD_SIZE", None)
        if local is not None:
            os.environ["LOCAL_WORLD_SIZE"] = str(local)
        key = f"{target} world {world} tp {tp} {options} local {local}"
        results[key] = attempt(groups_of, world, tp, target, **options)
    return results


def scenario_state():
    from neuronx_distributed.parallel_layers import pad, utils
    from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear, RowParallelLinear
    from neuronx_distributed.utils.utils import hardware

    os.environ["LOCAL_WORLD_SIZE"] = "4"
    results = {}
    with parallel(4, 8) as state:
        group = torch.distributed.new_group([0, 1], {"xla_pg_options": {"mesh": [[0, 1], [2, 3]]}})
        results["mock group"] = (group._mesh, group.size(), group.rank(), group.group_ranks)
        results["is a group"] = isinstance(group, torch.distributed.ProcessGroup)
        results["ranks="] = attempt(torch.distributed.new_group, ranks=[0, 1])
        results["backend="] = attempt(torch.distributed.new_group, [0, 1], backend="gloo")
        results["world"] = (torch.distributed.get_world_size(), torch.distributed.get_rank())
        results["group's"] = (torch.distributed.get_world_size(group), torch.distributed.get_rank(group))
        results["backend"] = torch.distributed.get_backend()
        results["real names"] = torch.distributed.ReduceOp is sys.modules["torch.distributed"].ReduceOp
        results["xr"] = sys.modules["torch_xla.runtime"].world_size()
        results["src"] = state.get_tensor_model_parallel_src_rank(), state.get_data_parallel_src_rank()
        results["initialized"] = state.model_parallel_is_initialized()
        state.initialize_speculative_draft_group(2)
        results["draft"] = state.get_speculative_draft_group(as_list=True)
        layer = ColumnParallelLinear(4, 8)
        results["not marked twice"] = attempt(utils.set_tensor_model_parallel_attributes, layer.weight, True, 0, 1, 4)
        results["duplicate"] = [
            utils.param_is_not_tensor_parallel_duplicate(p) for p in (layer.weight, layer.bias, torch.zeros(1))
        ]
    results["after"] = state.model_parallel_is_initialized()
    results["draft survives"] = state.get_speculative_draft_group(as_list=True)
    for getter in ("tensor_model", "data", "pipeline_model", "context_model", "expert_model"):
        for what in ("group", "size", "rank"):
            results[getter, what] = attempt(getattr(state, f"get_{getter}_parallel_{what}"))
    results["hardware"] = [attempt(lambda name=name: hardware(name).name) for name in ("trn1n", "inf2", "trn2", "x")]
    results["arithmetic"] = [
        (n, d, attempt(utils.divide, n, d), utils.get_padding_length(n, d), pad.get_number_of_extra_heads(n, d))
        for n in (1, 6, 16, 17)
        for d in (1, 4, 16)
    ]
    masks = [(48, 64, 8, 32, hardware.TRN1), (48, 64, 8, 32, hardware.TRN2), (56, 64, 8, 32, hardware.TRN1)]
    results["masks"] = [
        plain(pad.generate_padding_mask(*case[:4], rank, case[4])) for case in masks for rank in (0, 3, 8, 31)
    ]
    with parallel(2):

        class Attention(nn.ModuleDict):
            pass

        def hook(module, ratio):
            seen.append((type(module).__name__, ratio))

        seen = []
        q, o = ColumnParallelLinear(4, 12, gather_output=False), RowParallelLinear(12, 4, input_is_parallel=True)
        model = nn.ModuleDict({"attention": Attention({"q": q, "o": o}), "other": ColumnParallelLinear(4, 6)})
        for parameter in model.parameters():
            nn.init.ones_(parameter)
        pad.pad_model(model, 2, 3, wrapped_classes=[Attention], pad_hook_fn=hook)
        padded = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("master_weight")}
        results["padded"] = plain(padded), seen
    tensor = torch.arange(24.0).reshape(2, 3, 4)
    results["split"] = plain(utils.split_tensor_along_last_dim(tensor, 2, True))
    results["split uneven"] = attempt(utils.split_tensor_along_second_dim, tensor, 2)
    results["indices"] = plain(utils.indices_split_along_dim(tensor, 2, 1, 2))
    return results


def scenario_flags():
    from neuronx_distributed.trace.model_builder import append_default_compiler_flags

    given = [None, "", "-O2", "--optlevel 2", "--auto-cast=none", "--auto-cast matmult -O3", "--model-type=generic"]
    return {str(flags): append_default_compiler_flags(flags) for flags in given}

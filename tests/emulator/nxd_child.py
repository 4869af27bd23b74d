"""The child processes of `test_nxd_parity`: one implementation of NxD each.

`python -m tests.emulator.nxd_child real|emulated SCENARIO OUT` runs a scenario, `... RANK FOLDER` is one gloo
rank of the real NxD in CPU mode.
"""

import logging
import os
import pickle
import sys
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch import nn

from tests.emulator import nxd_scenarios
from tests.emulator.nxd_scenarios import parallel

SOURCE = os.environ.get("NXD_SOURCE")
RANKS = 2


class Zoo(nn.Module):
    """One of each layer and mapping that is right under one program for all ranks."""

    def __init__(self):
        from neuronx_distributed.parallel_layers import layers

        super().__init__()
        column, row, embedding = layers.ColumnParallelLinear, layers.RowParallelLinear, layers.ParallelEmbedding
        options = {"gather_output": False, "bias": False}
        self.gathered = column(6, 16)
        self.padded = column(6, 9, pad=True, keep_padded_output=True)
        self.cut_back = column(6, 9, pad=True, bias=False)
        self.up = column(6, 16, gather_output=False)
        self.down = row(16, 6, input_is_parallel=True)
        self.up16 = column(6, 16, dtype=torch.bfloat16, **options)
        self.down16 = row(16, 6, input_is_parallel=True, dtype=torch.bfloat16, reduce_dtype=torch.bfloat16)
        self.strided = column(6, 16, stride=2, **options)
        self.deferred = row(16, 6, input_is_parallel=True, skip_bias_add=True)
        self.spread = column(6, 16, sequence_parallel_enabled=True, sequence_dimension=1, **options)
        self.collected = row(16, 6, input_is_parallel=True, sequence_parallel_enabled=True, sequence_dimension=1)
        self.vocabulary = embedding(17, 6, use_spmd_rank=True, pad=True)
        self.vocabulary16 = embedding(16, 6, use_spmd_rank=True, dtype=torch.bfloat16)
        self.width = embedding(16, 6, shard_across_embedding=True)
        self.conv_out = layers.OutputChannelParallelConv2d(3, 8, 3, bias=False, gather_output=False)
        self.conv_gathered = layers.OutputChannelParallelConv2d(3, 5, 3, bias=False, partition_pad=True)
        self.conv_in = layers.InputChannelParallelConv2d(8, 3, 3, input_is_parallel=True)
        self.spmd = layers.SPMDRank(RANKS)

    def forward(self, x, ids, image):
        from neuronx_distributed.parallel_layers import mappings

        rank = self.spmd.get_rank()
        part = mappings.scatter_to_process_group_spmd(x, 1, rank)
        partial, bias = self.deferred(self.strided(x))
        hidden = self.up16(x.to(torch.bfloat16))
        return {
            "gathered": self.gathered(x),
            "sliced": mappings.gather_from_tensor_model_parallel_region(
                self.strided(x, slice_indices=torch.tensor([1, 0]))
            ),
            "padded": self.padded(x),
            "cut back": self.cut_back(x),
            "pair": self.down(self.up(x)),
            "pair bf16": self.down16(hidden),
            "deferred": partial + bias,
            "sequence": mappings.gather_from_sequence_parallel_region(self.collected(self.spread(part)), 1),
            "vocabulary": self.vocabulary(ids),
            "vocabulary bf16": self.vocabulary16(ids),
            "width": self.width(ids),
            "conv": self.conv_in(self.conv_out(image)),
            "conv gathered": self.conv_gathered(image),
            "spmd part": mappings.gather_from_tensor_model_parallel_region_with_dim(part, 1),
            "round robin": mappings.gather_from_tensor_model_parallel_region_with_dim(
                mappings.round_robin_scatter_to_process_group_spmd(x, 1, rank), 1
            ),
            "scattered": mappings.gather_from_tensor_model_parallel_region_with_dim(
                mappings.reduce_scatter_to_tensor_model_parallel_region_with_dim(x * (rank + 1), 1), 1
            ),
            "reduced": mappings.reduce_from_tensor_model_parallel_region(x * (rank + 1)),
            "gathered last": mappings.gather_from_tensor_model_parallel_region(x * (rank + 1)),
            "copied": mappings.copy_to_tensor_model_parallel_region(x),
        }


def zoo_inputs():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 6, generator=generator)
    ids = torch.randint(0, 16, (2, 5), generator=generator)
    return x, ids, torch.randn(2, 3, 6, 6, generator=generator)


def zoo_checkpoint():
    """Whole weights of the Zoo, drawn by name so that both sides agree."""
    with parallel(1):
        whole = Zoo().state_dict()
    return {
        name: torch.arange(RANKS, dtype=torch.int32) if name.endswith("rank") else drawn(name, tensor)
        for name, tensor in whole.items()
        if not name.endswith("master_weight")
    }


def drawn(name, like):
    seed = int.from_bytes(name.encode(), "little") % 2**31
    return (torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)) / 2).to(like.dtype)


def real_rank(rank, folder):
    install_stand_ins()
    from neuronx_distributed.parallel_layers import parallel_state
    from neuronx_distributed.trace.trace import get_sharded_checkpoint

    checkpoint = zoo_checkpoint()
    with parallel(RANKS, meta=True, aot=False):
        get_sharded_checkpoint(checkpoint, Zoo(), rank, RANKS)
    os.environ["NXD_CPU_MODE"] = "1"
    store = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS)
    parallel_state.initialize_model_parallel(RANKS)
    model = Zoo().eval()
    missing, unexpected = model.load_state_dict(checkpoint, strict=False)
    assert not unexpected and not missing, (missing, unexpected)
    with torch.no_grad():
        outputs = model(*zoo_inputs())
    Path(folder, f"rank{rank}.pkl").write_bytes(pickle.dumps(outputs))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def emulated_forward():
    """The same Zoo through ModelBuilder and the emulator's ranks."""
    import tempfile

    from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder

    with tempfile.TemporaryDirectory() as folder:
        builder = ModelBuilder(None, RANKS, zoo_checkpoint, compiler_workdir=os.path.join(folder, "work"))
        builder.add("zoo", BaseModelInstance(lambda: Zoo().eval(), {}), [zoo_inputs()])
        return dict(builder.trace()(*zoo_inputs()))


def stand_in(name, *path):
    """A module that has whatever is asked of it."""
    module = MagicMock(name=name)
    module.__name__, module.__path__, module.__spec__ = name, list(path), ModuleSpec(name, None)
    return module


class StandInFinder:
    ROOTS = ("torch_xla", "torch_neuronx", "neuronxcc", "libneuronxla", "nki", "nkilib")

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return ModuleSpec(name, cls, is_package=True) if name.split(".")[0] in cls.ROOTS else None

    @staticmethod
    def create_module(spec):
        return stand_in(spec.name)

    @staticmethod
    def exec_module(module):
        module.__version__ = "2.8.0"
        module.get_platform_target = lambda *args: "trn1"


def install_stand_ins():
    """Make `neuronx_distributed` the real source, without the `__init__` files that pull in training."""
    sys.meta_path.insert(0, StandInFinder)
    torch.classes.neuron = MagicMock()
    for name in ("", ".trace", ".modules", ".modules.moe", ".pipeline", ".trainer", ".quantization", ".kernels"):
        folder = Path(SOURCE, "neuronx_distributed", *name.split(".")[1:])
        package = sys.modules[f"neuronx_distributed{name}"] = stand_in(f"neuronx_distributed{name}", str(folder))
        if name:
            parent, _, child = package.__name__.rpartition(".")
            setattr(sys.modules[parent], child, package)


def main(side, what, out):
    warnings.simplefilter("ignore")
    logging.disable()  # the real source logs every group it makes
    if side == "real":
        install_stand_ins()
    else:
        from optimum_pixart_neuron import emulator

        emulator.activate("trn1.32xlarge")
    result = emulated_forward() if what == "forward" else getattr(nxd_scenarios, f"scenario_{what}")()
    Path(out).write_bytes(pickle.dumps(result))


if __name__ == "__main__" and len(sys.argv) == 4:
    main(*sys.argv[1:])
elif __name__ == "__main__":
    real_rank(int(sys.argv[1]), sys.argv[2])

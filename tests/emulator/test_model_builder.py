"""The emulated ModelBuilder: flags, files, checks, buckets and the state it leaves behind."""

import inspect

import neuronx_distributed
import pytest
import torch
from neuronx_distributed.parallel_layers import parallel_state
from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear
from neuronx_distributed.trace import hlo_utils
from neuronx_distributed.trace.model_builder import (
    BaseModelInstance,
    ModelBuilder,
    append_default_compiler_flags,
)
from safetensors.torch import load_file
from torch import nn

from optimum_pixart_neuron.emulator.program import Program


@pytest.fixture(autouse=True)
def trn1(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn1")


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = ColumnParallelLinear(4, 6)

    def forward(self, x, scale):
        return {"y": self.layer(x) * scale}


def example(batch=2):
    return torch.ones(batch, 4), torch.tensor([2.0])


def weights():
    return {"layer.weight": torch.arange(24.0).reshape(6, 4), "layer.bias": torch.ones(6)}


def builder_in(folder, tp=1, inputs=None, build=lambda: Model().eval(), compiler_args=None, **options):
    builder = ModelBuilder(None, tp, weights, compiler_workdir=str(folder / "work"), **options)
    return builder.add("model", BaseModelInstance(build, {}), inputs or [example()], compiler_args)


def test_signatures_are_the_ones_of_nxd():
    def parameters(function):
        return " ".join(inspect.signature(function).parameters)

    assert parameters(ModelBuilder.__init__) == (
        "self router tp_degree checkpoint_loader start_rank_id pp_degree ep_degree local_ranks_size world_size "
        "compiler_workdir master_proc_env_vars debug num_cores_per_group init_custom_process_group_fn "
        "logical_nc_config weights_to_skip_layout_optimization compiler_flag_hook"
    )
    added = "self key model_instance example_inputs compiler_args bucket_config priority_model_idx"
    assert parameters(ModelBuilder.add) == added
    assert ModelBuilder(None, 1, weights).compiler_workdir == "/tmp/nxd_model/"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "--enable-saturate-infinity --auto-cast=none --model-type=transformer -O1"),
        ("--auto-cast=none -O2", "--auto-cast=none -O2"),
        ("--auto-cast matmult -O1", "--auto-cast matmult -O1"),
        ("-O3", "-O3 --auto-cast=none "),
        ("--auto-cast=none --optlevel 2", "--auto-cast=none --optlevel 2 -O1 "),  # the right-most wins: -O1
    ],
)
def test_default_flags(given, expected):
    assert append_default_compiler_flags(given) == expected


def test_the_number_of_local_ranks_must_be_known():
    with pytest.raises(ValueError, match="world_size 2 is given without local_ranks_size"):
        ModelBuilder(None, 2, weights, world_size=2)


@pytest.mark.parametrize(
    ("flags", "lnc", "target"), [("--lnc=2", 1, "trn2"), ("--logical-nc-config 1", 2, "trn2"), ("-O1", 1, "trn2")]
)
def test_logical_cores_of_builder_and_compiler_must_agree(tmp_path, flags, lnc, target):
    builder = builder_in(tmp_path, compiler_args=f"--target={target} {flags}", logical_nc_config=lnc)
    kept = tmp_path / "work" / "kept"
    kept.mkdir(parents=True)
    with pytest.raises(RuntimeError, match=f"logical_nc_config={lnc} but the compiler would use --lnc={3 - lnc}"):
        builder.trace(initialize_model_weights=False)
    assert kept.exists()


def test_artifacts_replace_whatever_the_work_dir_held(tmp_path):
    stale = tmp_path / "work" / "stale"
    stale.mkdir(parents=True)
    builder = builder_in(tmp_path, tp=2, inputs=[example(), example(3)], compiler_args="--target=trn1 -O1")
    executor = builder.trace(initialize_model_weights=False)
    assert not stale.exists()
    for bucket, batch in enumerate((2, 3)):
        folder = tmp_path / "work" / "model" / f"_tp0_bk{bucket}"
        program = Program.from_bytes((folder / "graph.neff").read_bytes())
        assert program.inputs[0].shape == (batch, 4) and program.world_size == 2
        text = (folder / "model" / "graph.hlo").read_text()
        assert "weight layer.weight: float32[3, 4]" in text and "neuron_emulator::all_gather" in text
        assert "--target=trn1 -O1" in (folder / "command.txt").read_text()
    with pytest.raises(torch.jit.Error, match="not initialized"):
        executor(*example())


def test_dry_run_writes_graphs_only(tmp_path):
    assert builder_in(tmp_path).trace(dry_run=True) is None
    folder = tmp_path / "work" / "model" / "_tp0_bk0"
    assert (folder / "model" / "graph.hlo").exists() and not (folder / "graph.neff").exists()
    assert not list((tmp_path / "work").glob("*.safetensors"))


@pytest.mark.parametrize("where", ["module", "groups", "forward"])
def test_state_that_is_left_after_an_error(tmp_path, where):
    """NxD 0.15 has no `finally`: only what a `with` exchanged comes back."""

    def fail(*args):
        raise ZeroDivisionError

    def build():
        assert parallel_state.get_aot_mode()
        model = Model().eval()
        if where == "forward":
            model.forward = fail
        return model

    options = {"init_custom_process_group_fn": fail} if where == "groups" else {}
    builder = builder_in(tmp_path, tp=2, build=fail if where == "module" else build, **options)
    real, strategy = torch.distributed, torch.multiprocessing.get_sharing_strategy()
    try:
        with pytest.raises(ZeroDivisionError):
            builder.trace()
        assert torch.distributed is real
        assert parallel_state.model_parallel_is_initialized() and parallel_state.get_aot_mode()
    finally:
        parallel_state.set_aot_mode(False)
        parallel_state.destroy_model_parallel()
        torch.multiprocessing.set_sharing_strategy(strategy)


def test_the_module_is_built_once_per_key_as_rank_0_on_real_memory(tmp_path):
    def build():
        model = Model().eval()
        seen.append((parallel_state.get_tensor_model_parallel_rank(), model.layer.weight.device.type))
        return model

    seen = []
    builder = builder_in(tmp_path, tp=2, build=build, inputs=[example(), example(3)])
    builder.add("other", BaseModelInstance(build, {}), [example(5)])
    builder.trace(initialize_model_weights=False)
    assert seen == [(0, "cpu"), (0, "cpu")]


def test_the_flag_hook_sees_all_but_the_priority_bucket(tmp_path):
    def hook(key, container, bucket, compiler_args):
        seen.append((key, bucket))
        return compiler_args + "--hooked"

    seen = []
    builder = builder_in(tmp_path, compiler_flag_hook=hook)
    instance = BaseModelInstance(lambda: Model().eval(), {})
    builder.add("other", instance, [example(), example(3)], priority_model_idx=0).trace(dry_run=True)
    assert seen == [("model", 0), ("other", 1)]
    assert "--hooked" in (tmp_path / "work" / "other" / "_tp0_bk1" / "command.txt").read_text()


def test_what_is_not_emulated_says_so(tmp_path, monkeypatch):
    for name in ("parallel_model_trace", "parallel_model_save"):
        with pytest.raises(NotImplementedError, match=f"{name} is unsupported from Neuron SDK 2.27"):
            getattr(neuronx_distributed.trace, name)("model", "folder")
    builder = ModelBuilder(None, 1, weights, compiler_workdir=str(tmp_path / "work"))
    builder.add("model", BaseModelInstance(lambda: Model().eval(), {"state": 0}), [example()])
    with pytest.raises(NotImplementedError, match="input_output_aliases are not emulated"):
        builder.trace()
    builder.transform_weight_layout_with_overriden_option(str(tmp_path))
    monkeypatch.setenv(hlo_utils.NXD_LAYOUT_TRANSFORMATION_OPTIONS, hlo_utils.NXD_LAYOUT_ON_CPU_AND_SERIALIZE)
    with pytest.raises(RuntimeError, match="NXD_LAYOUT_TRANSFORMATION_OPTIONS is not emulated"):
        builder.transform_weight_layout_with_overriden_option(str(tmp_path))


def test_weights_are_not_initialized_when_ranks_are_elsewhere(tmp_path):
    builder = builder_in(tmp_path, tp=2, world_size=2, local_ranks_size=1)
    with pytest.raises(RuntimeError, match="must be False: 1 of 2 ranks run here"):
        builder.trace()


def test_a_missing_weight_is_found_when_the_ranks_are_initialized(tmp_path):
    builder = builder_in(tmp_path)
    builder.checkpoint_loader = lambda: {"layer.bias": torch.ones(6)}
    with pytest.raises(RuntimeError, match="missing weights layer.weight"):
        builder.trace()


@pytest.mark.ranks
def test_buckets_and_keys_share_the_weights_of_two_ranks(tmp_path):
    builder = builder_in(tmp_path, tp=2, inputs=[example(), example(3)])
    builder.add("other", BaseModelInstance(lambda: Model().eval(), {}), [example(5)])
    executor = builder.trace()
    saved = load_file(tmp_path / "work" / "tp1_sharded_checkpoint.safetensors")
    assert torch.equal(saved["layer.weight"], weights()["layer.weight"][3:])
    for batch in (2, 3, 5):
        x, scale = torch.randn(batch, 4), torch.tensor([3.0])
        expected = nn.functional.linear(x, weights()["layer.weight"], weights()["layer.bias"]) * scale
        torch.testing.assert_close(executor(x, scale)["y"], expected)
    with pytest.raises(torch.jit.Error, match="no program was compiled for input shapes"):
        executor(*example(4))

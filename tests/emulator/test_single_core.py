"""torch_neuronx: trace, placement, weights, archives."""

import gc
import subprocess
import sys

import pytest
import torch
import torch_neuronx
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Linear(4, 4)

    def forward(self, sample, timestep):
        return {"sample": self.model(sample) * timestep[:, None]}


@pytest.fixture(autouse=True)
def small_device(start_device):
    """Four visible cores, nothing on them."""
    return start_device(NEURON_RT_NUM_CORES="4")


INPUTS = (torch.arange(8.0).reshape(2, 4), torch.tensor([1.0, 2.0]))


def reload(traced, path):
    torch.jit.save(traced, path)
    return torch.jit.load(path)


@pytest.mark.parametrize("inline", [True, False])
def test_parity_before_and_after_saving(tmp_path, inline):
    model = Model().eval()
    traced = torch_neuronx.trace(
        model, INPUTS, compiler_args="--target inf2 --optlevel 2", inline_weights_to_neff=inline, cpu_backend=True
    )
    torch_neuronx.async_load(traced)
    torch_neuronx.lazy_load(traced)
    for module in (traced, reload(traced, tmp_path / "model.neuron")):
        output = module(*INPUTS)
        assert list(output) == ["sample"]
        torch.testing.assert_close(output["sample"], model(*INPUTS)["sample"])
    assert hasattr(traced, "weights") is not inline


def test_tracing_loads_nothing_and_a_collected_module_gives_memory_back(small_device):
    traced = torch_neuronx.trace(Model().eval(), INPUTS)
    assert not any(small_device.used.values())
    traced(*INPUTS)
    assert any(small_device.used.values())
    del traced
    gc.collect()
    assert not any(small_device.used.values())


def test_shapes_and_the_number_of_inputs_are_static():
    traced = torch_neuronx.trace(Model().eval(), INPUTS)
    with pytest.raises(RuntimeError, match=r"input 0 \(sample\): compiled for float32\[2, 4\], got float32\[3, 4\]"):
        traced(torch.ones(3, 4), torch.ones(2))
    with pytest.raises(RuntimeError, match="missing value for argument 'timestep'"):
        traced(INPUTS[0])


def test_separated_weights_are_named_parameters_and_replaceable(tmp_path):
    traced = torch_neuronx.trace(Model().eval(), INPUTS, inline_weights_to_neff=False)
    traced = reload(traced, tmp_path / "model.neuron")
    assert '__parameters__ = ["model->weight", "model->bias", ]' in traced.weights._c.code
    other = Model().eval()
    torch_neuronx.replace_weights(traced, other)
    torch.testing.assert_close(traced(*INPUTS)["sample"], other(*INPUTS)["sample"])
    traced.weights._c.setattr("model->bias", torch.full((4,), 7.0))  # as optimum-neuron replaces them
    torch_neuronx.replace_weights(traced, {"model.weight": torch.zeros(4, 4)})
    assert torch.equal(traced(*INPUTS)["sample"], torch.full((2, 4), 7.0) * INPUTS[1][:, None])
    with pytest.raises(RuntimeError, match=r"weight model->bias: compiled for torch.float32\[4\]"):
        torch_neuronx.replace_weights(traced, {"model.bias": torch.zeros(5)})


def test_replacing_inlined_weights_only_warns(caplog):
    torch_neuronx.replace_weights(torch_neuronx.trace(Model().eval(), INPUTS), Model())
    assert "weights are inlined" in caplog.text


def test_dynamic_batch_runs_any_batch_in_chunks(tmp_path):
    model = Model().eval()
    traced = reload(torch_neuronx.dynamic_batch(torch_neuronx.trace(model, INPUTS)), tmp_path / "model.neuron")
    for batch in (1, 2, 5):
        inputs = (torch.randn(batch, 4), torch.randn(batch))
        torch.testing.assert_close(traced(*inputs), model(*inputs))
    with pytest.raises(RuntimeError, match="sizes of dim 0"):
        torch_neuronx.dynamic_batch(torch_neuronx.trace(lambda x, y: x + y, (torch.ones(2, 4), torch.ones(4))))


def test_placement(small_device):
    traced = torch_neuronx.trace(Model().eval(), INPUTS)

    def used():
        return {core for core, nbytes in small_device.used.items() if nbytes}

    torch_neuronx.experimental.set_neuron_cores(traced, start_nc=1, nc_count=2)
    assert used() == {1, 2}
    torch_neuronx.set_neuron_cores(traced, 3, 1)
    assert used() == {3}
    torch_neuronx.set_multicore(traced)
    assert used() == {0, 1, 2, 3}
    other = torch_neuronx.trace(Model().eval(), INPUTS)
    with torch_neuronx.experimental.neuron_cores_context(2, 1):
        other(*INPUTS)
    assert small_device.used[2] == 2 * small_device.used[3]
    torch_neuronx.move_trace_to_device(other, 0)


@pytest.mark.parametrize(("start", "count"), [(0, 0), (0, -2), (0, 5), (4, 1), (3, 2), (-2, 1)])
def test_placement_outside_the_visible_cores(start, count):
    traced = torch_neuronx.trace(Model().eval(), INPUTS)
    with pytest.raises(ValueError, match="nc_count|start_nc"):
        torch_neuronx.set_neuron_cores(traced, start, count)


def test_placing_a_module_without_programs_does_nothing(small_device):
    torch_neuronx.set_neuron_cores(nn.Linear(1, 1), 0, 1)
    assert not small_device.used


def test_a_program_too_large_for_a_core_does_not_load():
    traced = torch_neuronx.trace(lambda x: x.expand(2**32).clone().sum() + x, torch.ones(1))
    with pytest.raises(RuntimeError, match=r"out of device memory on core 0: 16.00 GiB needed"):
        traced(torch.ones(1))


def test_a_program_for_another_chip_does_not_load(start_device):
    traced = torch_neuronx.trace(Model().eval(), INPUTS, compiler_args=["--target", "trn2"], cpu_backend=True)
    with pytest.raises(RuntimeError, match="compiled for trn2 and cannot load on trn1.32xlarge"):
        traced(*INPUTS)
    start_device("trn2.3xlarge")
    traced(*INPUTS)


def test_platform_target(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "inf2")
    assert torch_neuronx.utils.get_platform_target() == "inf2"
    assert torch_neuronx.utils.get_platform_target("--model-type generic --target trn2") == "trn2"


def test_what_is_not_emulated_is_refused_by_name():
    with pytest.raises(RuntimeError, match="input_output_aliases"):
        torch_neuronx.trace(Model().eval(), INPUTS, input_output_aliases={INPUTS[0]: 0})
    with pytest.raises(RuntimeError, match="collectives, which need ranks"):
        torch_neuronx.trace(lambda x: torch.ops.neuron_emulator.all_reduce(x, "sum", 1.0, [0], 1), torch.ones(1))


@pytest.mark.seconds
def test_archives_are_refused_by_name_without_the_emulator(tmp_path):
    """Real torch_neuronx has no operator of that namespace: an emulated archive cannot pass for a real one."""
    path = tmp_path / "model.neuron"
    torch.jit.save(torch_neuronx.trace(Model().eval(), INPUTS), path)
    done = subprocess.run(
        [sys.executable, "-c", f"import torch; torch.jit.load({str(path)!r})"], capture_output=True, text=True
    )
    assert done.returncode != 0 and "neuron_emulator::" in done.stderr

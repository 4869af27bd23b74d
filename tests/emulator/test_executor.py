"""The executor that ModelBuilder returns: NxD's interface, weights, routing, and SPMD as strict as on hardware."""

import gc

import pytest
import torch
from torch import nn

from optimum_pixart_neuron.emulator.device import current_device
from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.emulator.runtime import rank_process_ids
from optimum_pixart_neuron.emulator.spmd import build_executor
from tests.emulator.programs import START, Calls, Ranked, total
from tests.processes import assert_all_end


def executor(module=None, sizes=(3,)):
    programs = [Program.compile(module or Ranked(), (torch.ones(size),), world_size=2) for size in sizes]
    return build_executor({"BaseModelInstance": programs}, world_size=2)


def weights(*values):
    return [{"weight": torch.full((3,), float(value))} for value in values]


@pytest.mark.ranks
def test_ranks_use_their_own_weights_and_return_the_modules_structure():
    model = executor()
    model.nxd_model.initialize([{**each, "extra": torch.ones(1)} for each in weights(1, 10)], START)
    assert torch.equal(model(torch.ones(3))["sum"], torch.full((3,), 11.0))
    assert torch.equal(model.nxd_model.forward([torch.ones(3)])["sum"], torch.full((3,), 11.0))
    assert model.original_name == "NxDModelExecutor"


@pytest.mark.ranks
def test_a_rank_dependent_python_constant_is_wrong_here_as_on_hardware():
    """Written for each rank to add its own rank, 0 + 1: but there is one program, and it was traced as rank 0."""
    model = executor(Ranked(rank=0.0))
    model.nxd_model.initialize(weights(0, 0), START)
    assert torch.equal(model(torch.ones(3))["sum"], torch.zeros(3))


def test_forward_before_initialize():
    # raised inside TorchScript, as NxD raises it, where a ValueError becomes a torch.jit.Error
    with pytest.raises(torch.jit.Error, match="not initialized, please call traced_model.nxd_model.initialize"):
        executor()(torch.ones(3))


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (weights(1), "1 weight dicts were given, the programs run on 2 ranks"),
        ([*weights(1), {}], "rank 1: missing weights weight"),
        ([*weights(1), {"weight": torch.ones(4)}], r"rank 1: weight weight is float32\[4\].*compiled for float32\[3"),
        ([{"weight": torch.ones(3).bfloat16()}, *weights(1)], r"rank 0: weight weight is bfloat16\[3\]"),
    ],
)
def test_wrong_weights_start_nothing(checkpoint, message):
    model = executor()
    with pytest.raises(RuntimeError, match=message):
        model.nxd_model.initialize(checkpoint, START)
    assert rank_process_ids() == []


@pytest.mark.ranks
def test_routing_by_exact_shape_and_dtype():
    model = executor(Calls(lambda x: x * 2), sizes=(2, 5))
    model.nxd_model.initialize([{}, {}], START)
    for size in (2, 5):
        assert torch.equal(model(torch.ones(size)), torch.full((size,), 2.0))
    with pytest.raises(torch.jit.Error, match=r"no program was compiled for input shapes \[\[3\]\], only for"):
        model(torch.ones(3))
    with pytest.raises(RuntimeError, match=r"input 0 \(x\): compiled for float32\[2\], got int64\[2\]"):
        model(torch.ones(2).long())
    assert torch.equal(model(torch.ones(2)), torch.full((2,), 2.0)), "a refused input does no harm"


def test_too_many_ranks_or_too_little_memory(start_device):
    start_device(NEURON_RT_NUM_CORES="1")
    with pytest.raises(RuntimeError, match="cores 0 to 1 are needed, 1 are visible"):
        executor().nxd_model.initialize(weights(1, 1), START)
    start_device(NEURON_RT_NUM_CORES="2").claim([1], 16 * 2**30)
    with pytest.raises(RuntimeError, match="out of device memory on core 1"):
        executor().nxd_model.initialize(weights(1, 1), START)


@pytest.mark.ranks
def test_initialized_weights_are_saved_and_can_start_another_copy(tmp_path):
    model = executor()
    model.nxd_model.initialize(weights(1, 2), START)
    torch.jit.save(model, tmp_path / "model.neuron")
    other = torch.jit.load(tmp_path / "model.neuron")
    with pytest.raises(torch.jit.Error, match="not initialized"):
        other(torch.ones(3))
    other.nxd_model.initialize_with_saved_weights(START)
    assert torch.equal(other(torch.ones(3))["sum"], torch.full((3,), 3.0))
    assert torch.equal(model(torch.ones(3))["sum"], torch.full((3,), 3.0)), "two models in one process"


@pytest.mark.ranks
def test_initializing_again_replaces_the_ranks():
    model = executor()
    for value in (1, 5):
        model.nxd_model.initialize(weights(value, value), START)
        assert len(rank_process_ids()) == 2
        assert torch.equal(model(torch.ones(3))["sum"], torch.full((3,), 2.0 * value))


def test_programs_for_another_number_of_ranks_are_refused():
    program = Program.compile(Ranked(), (torch.ones(3),), world_size=2)
    with pytest.raises(RuntimeError, match="compiled for 2 ranks cannot run on 4"):
        build_executor({"model": [program]}, world_size=4)


@pytest.mark.ranks
def test_ranks_stop_when_the_module_is_collected():
    model = executor()
    model.nxd_model.initialize(weights(1, 2), START)
    started = rank_process_ids()
    assert len(started) == 2
    del model
    gc.collect()
    assert_all_end(started, 5)
    assert not any(current_device().used.values())


@pytest.mark.ranks
def test_an_error_on_one_rank_is_reported_with_its_rank():
    class Picks(nn.Module):
        """Rank 1's weight indexes out of bounds, before a collective in which rank 0 waits for it."""

        def __init__(self):
            super().__init__()
            self.index = nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False)

        def forward(self, x):
            return total(x[self.index])

    model = executor(Picks())
    model.nxd_model.initialize([{"index": torch.tensor([0])}, {"index": torch.tensor([9])}], START)
    with pytest.raises(RuntimeError, match="rank 1 failed: IndexError"):
        model(torch.ones(3))
    with pytest.raises(RuntimeError, match="ranks of this model were stopped: rank 1 failed.*load the model again"):
        model(torch.ones(3))
    assert rank_process_ids() == []

"""torch_neuronx.DataParallel: how a batch is split, placed and gathered, and what fails."""

import pytest
import torch
import torch_neuronx
from torch import nn


class Model(nn.Module):
    def forward(self, x, y):
        return {"double": x * 2, "sum": x + y[:, None], "first": x[0, 0]}


@pytest.fixture(autouse=True)
def four_cores(start_device):
    return start_device(NEURON_RT_NUM_CORES="4")


def traced(batch=1, module=None):
    return torch_neuronx.trace(module or Model(), (torch.ones(batch, 3), torch.ones(batch)))


def inputs(batch):
    return torch.arange(batch * 3.0).reshape(batch, 3), torch.arange(float(batch))


def test_splits_runs_and_gathers_in_order():
    parallel = torch_neuronx.DataParallel(traced(), [0, 1], set_dynamic_batching=False)
    x, y = inputs(2)
    output = parallel(x, y)
    assert torch.equal(output["double"], x * 2)
    assert torch.equal(output["sum"], x + y[:, None])
    assert torch.equal(output["first"], x[:, 0]), "scalars become a vector"


@pytest.mark.parametrize("batch", [2, 3])
def test_each_chunk_must_be_the_compiled_batch(batch):
    """Compiled for 2 on two cores, a batch of 2 is split into 1 + 1, and 3 into 2 + 1."""
    parallel = torch_neuronx.DataParallel(traced(2), [0, 1], set_dynamic_batching=False)
    with pytest.raises(RuntimeError, match=r"compiled for float32\[2, 3\], got float32\[1, 3\]"):
        parallel(*inputs(batch))


def test_a_batch_smaller_than_the_cores_makes_jobs_of_one(caplog):
    parallel = torch_neuronx.DataParallel(traced(), [0, 1, 2], set_dynamic_batching=False)
    x, y = inputs(2)
    assert torch.equal(parallel(x, y)["double"], x * 2)
    assert "2 jobs on 3 NeuronCores" in caplog.text


def test_dynamic_batching_until_it_is_disabled():
    elementwise = torch_neuronx.trace(lambda x, y: (x * 2, x + y[:, None]), (torch.ones(2, 3), torch.ones(2)))
    parallel = torch_neuronx.DataParallel(elementwise, [0, 1])
    x, y = inputs(5)
    output = parallel(x, y)
    assert isinstance(output, tuple) and torch.equal(output[1], x + y[:, None])
    parallel.disable_dynamic_batching()
    with pytest.raises(RuntimeError, match="shapes are static"):
        parallel(x, y)
    assert torch.equal(parallel(*inputs(4))[0], inputs(4)[0] * 2)


def test_other_dimension_needs_static_chunks():
    compiled = torch_neuronx.trace(lambda x: x * 2, torch.ones(3, 2))
    parallel = torch_neuronx.DataParallel(compiled, [0, 1], 1, False)
    assert torch.equal(parallel(torch.ones(3, 4)), torch.full((3, 4), 2.0))
    with pytest.raises(RuntimeError, match="dynamic batching splits dim 0, not 1"):
        torch_neuronx.DataParallel(compiled, [0, 1], 1)(torch.ones(3, 4))


def test_split_size_overrides_the_rule():
    parallel = torch_neuronx.DataParallel(traced(2), [0, 1, 2], set_dynamic_batching=False)
    parallel.split_size = 2
    x, y = inputs(4)
    assert torch.equal(parallel(x, y)["double"], x * 2)
    assert parallel.num_workers == 6


def test_consecutive_cores_replicate_and_others_copy(four_cores):
    torch_neuronx.DataParallel(traced(), [1, 2], set_dynamic_batching=False)
    module = traced()
    parallel = torch_neuronx.DataParallel(module, [0, 3], set_dynamic_batching=False)
    assert {core for core, nbytes in four_cores.used.items() if nbytes} == {0, 3}
    x, y = inputs(2)
    assert torch.equal(parallel(x, y)["double"], x * 2)
    assert torch_neuronx.DataParallel(traced(), set_dynamic_batching=False).device_ids == [0, 1, 2, 3]


def test_too_few_cores_are_an_error_only_with_dynamic_batching(start_device, caplog):
    start_device(NEURON_RT_NUM_CORES="1")
    x, y = inputs(2)
    static = torch_neuronx.DataParallel(traced(), [0, 1], set_dynamic_batching=False)
    assert "default NeuronCore only" in caplog.text
    assert torch.equal(static(x, y)["double"], x * 2)
    elementwise = torch_neuronx.trace(lambda x: x * 2, torch.ones(1, 3))
    with pytest.raises(RuntimeError, match="could not be placed.*only 1|could not be placed.*1 to 1"):
        torch_neuronx.DataParallel(elementwise, [0, 1])(x)

"""Groups of the emulated NxD: who belongs together, what is refused, what outlives what."""

import warnings

import pytest
import torch
from neuronx_distributed.parallel_layers import comm, parallel_state
from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear, SPMDRank
from neuronx_distributed.trace.mock_torchdist import mock_distributed

from tests.emulator.nxd_scenarios import parallel


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch):
    """A trn1 without LOCAL_WORLD_SIZE; every table empty again afterwards."""
    monkeypatch.setattr(parallel_state, "get_platform_target", lambda: "trn1")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    yield
    for table in (parallel_state._groups, parallel_state._meshes, parallel_state._sizes, parallel_state._ranks):
        table.clear()


@pytest.mark.parametrize(
    ("tp", "world", "sizes", "expected"),
    [
        (2, 2, {}, [[0, 1]]),
        (2, 4, {}, [[0, 1], [2, 3]]),
        (8, 2, {}, [[0, 1]]),  # clamped to the world
        (2, 4, {"pipeline_model_parallel_size": 2}, [[0, 1], [2, 3]]),
    ],
)
def test_tensor_parallel_groups_are_neighbours(tp, world, sizes, expected):
    with parallel(tp, world, **sizes) as state:
        group = state.get_tensor_model_parallel_group()
        assert state.get_tensor_model_parallel_group(as_list=True) == group._mesh == expected
        assert (group.size(), group.rank()) == (len(expected[0]), 0)
        assert state.get_tensor_model_parallel_size() == len(expected[0])
        assert isinstance(group, torch.distributed.ProcessGroup)


def test_four_ranks_on_trn1_need_the_local_world_size_and_are_spread(monkeypatch):
    with pytest.raises(KeyError, match="LOCAL_WORLD_SIZE"), parallel(4, 8):
        pass
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with parallel(4, 8) as state:
        assert state.get_tensor_model_parallel_group(as_list=True) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    with pytest.raises(RuntimeError, match="LOCAL_WORLD_SIZE=8 does not fit"), parallel(4, 4):
        pass
    monkeypatch.setattr(parallel_state, "get_platform_target", lambda: "trn2")
    with parallel(4, 8) as state:
        assert state.get_tensor_model_parallel_group(as_list=True) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_trn2_folds_its_rows(monkeypatch):
    monkeypatch.setattr(parallel_state, "get_platform_target", lambda: "trn2")
    with parallel(32, 64, lnc_size=2) as state:
        assert state.get_tensor_model_parallel_group(as_list=True) == [[*range(16), *range(48, 64)], [*range(16, 48)]]
    with parallel(32, 64, lnc_size=1) as state:
        assert state.get_tensor_model_parallel_group(as_list=True)[0] == [*range(32)]


def test_sizes_must_divide_the_world():
    with pytest.raises(RuntimeError, match="world size 6 is not divisible by tensor 4"), parallel(4, 6):
        pass
    assert not parallel_state.model_parallel_is_initialized()


def test_unknown_platform(monkeypatch):
    monkeypatch.setattr(parallel_state, "get_platform_target", lambda: "trn9")
    with pytest.raises(ValueError, match="trn9"), parallel(2):
        pass


def test_getters_fail_before_and_after():
    with pytest.raises(AssertionError, match="group is not initialized"):
        parallel_state.get_tensor_model_parallel_size()
    with parallel(2):
        assert parallel_state.get_data_parallel_group(as_list=True) == [[0], [1]]
    with pytest.raises(AssertionError, match="data parallel group is not initialized"):
        parallel_state.get_data_parallel_group()
    with pytest.raises(AssertionError, match="torch.distributed is not initialized"):
        parallel_state.initialize_model_parallel(2)


def test_draft_groups_outlive_the_state_and_kv_groups_can_be_destroyed():
    with parallel(8) as state:
        state.initialize_speculative_draft_group(4)
        state.initialize_kv_group(4, sequential_ranks_in_group=True)
        assert state.get_speculative_draft_group(as_list=True) == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert state.get_kv_shared_group()._mesh == [[0, 1, 2, 3], [4, 5, 6, 7]]
        state.destroy_kv_group()
        state.initialize_kv_group(2)
        assert state.get_kv_shared_group()._mesh == [[0, 4], [1, 5], [2, 6], [3, 7]]
        with pytest.raises(AssertionError, match="size 2, not 4"):
            state.initialize_kv_group(4)
    with parallel(2) as state:
        with pytest.raises(AssertionError, match="size 4, not 1"):
            state.initialize_speculative_draft_group(1)
        state.initialize_speculative_draft_group(4)  # the old mesh, in silence
        assert state.get_speculative_draft_group().size() == 4


def test_mock_takes_two_positional_arguments_and_goes_away():
    real = torch.distributed
    with pytest.raises(ZeroDivisionError), mock_distributed(world_size=4):
        assert torch.distributed is not real
        torch.distributed.init_process_group("xla", rank=0, world_size=4)
        mesh = [[0, 1], [2, 3]]
        group = torch.distributed.new_group(mesh[0], {"xla_pg_options": {"mesh": mesh}})
        assert (group._mesh, group.size(), group.rank()) == (mesh, 2, 0)
        assert torch.distributed.get_world_size() == 4
        assert torch.distributed.get_world_size(group=group) == 2
        options = {"xla_pg_options": {"mesh": mesh}}
        for wrong in ({"ranks": [0, 1]}, {"group_ranks": [0, 1], "backend": "gloo"}):
            with pytest.raises(TypeError, match="unexpected keyword"):
                torch.distributed.new_group(**wrong, pg_options=options)
        with pytest.raises(TypeError, match="pg_options"):
            torch.distributed.new_group([0, 1])
        raise ZeroDivisionError
    assert torch.distributed is real


def test_a_layer_outside_any_state_makes_a_world_of_one_without_a_process_group():
    with pytest.warns(UserWarning, match="for one rank"):
        layer = ColumnParallelLinear(4, 6)
    assert not torch.distributed.is_initialized()
    assert parallel_state.get_tensor_model_parallel_size() == 1
    assert parallel_state.get_tensor_model_parallel_rank() == 0
    x = torch.randn(3, 4)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SPMDRank(1)


def test_a_layer_outside_any_state_where_torch_distributed_is_up(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="call initialize_model_parallel"):
        ColumnParallelLinear(4, 6)


def test_cpu_mode_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("NXD_CPU_MODE", "1")
    with pytest.raises(RuntimeError, match="NXD_CPU_MODE is not emulated"):
        comm.all_gather(torch.ones(1), groups=[[0, 1]], pin_layout=False)

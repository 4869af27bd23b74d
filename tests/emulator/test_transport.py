"""Weights reach the ranks with their values of this moment: from a file that still holds them, or else copied."""

import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.emulator.program import Program
from optimum_pixart_neuron.emulator.runtime import rank_process_ids
from optimum_pixart_neuron.emulator.transport import SharedWeights, map_weights
from tests.emulator.programs import Ranked, on_ranks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all weights are copied")


@pytest.fixture
def ranks(tmp_path):
    """Two ranks' weights, loaded from a file each."""
    generator = torch.Generator().manual_seed(0)
    loaded = []
    for rank in range(2):
        path = tmp_path / f"{rank}.safetensors"
        save_file(
            {
                "large": torch.randn(100, 300, generator=generator),
                "half": torch.randn(7, 3, generator=generator).bfloat16(),
                "none": torch.empty(0, 4),
            },
            path,
        )
        loaded.append(load_file(path))
    return loaded


def received(shared):
    """What each rank gets; with the files of `shared` closed again."""
    shared.fill()
    mapped = [map_weights(shared.descriptors, slots) for slots in shared.layout]
    shared.close()
    return mapped


def assert_same(given, checkpoint):
    for rank, weights in enumerate(checkpoint):
        for name, tensor in weights.items():
            assert given[rank][name].dtype == tensor.dtype
            assert torch.equal(given[rank][name], tensor), (rank, name)


def files_of(shared, name):
    return [slots[name].file for slots in shared.layout]


@pytest.mark.seconds
def test_a_weight_is_mapped_from_the_file_it_was_loaded_from(ranks):
    shared = SharedWeights(["large", "half", "none"], ranks)
    assert files_of(shared, "large") == files_of(shared, "half") == [1, 2]
    assert os.fstat(shared.descriptors[0]).st_size < 1000  # nothing was copied but the empty tensors
    assert_same(received(shared), ranks)


def test_a_weight_changed_since_it_was_loaded_is_copied(ranks):
    ranks[0]["large"][50] += 1.0
    shared = SharedWeights(["large", "half", "none"], ranks)
    assert files_of(shared, "large") == [0, 1]
    assert_same(received(shared), ranks)


def test_a_rank_that_writes_to_its_weights_leaves_the_file_alone(ranks, tmp_path):
    before = (tmp_path / "0.safetensors").read_bytes()
    received(SharedWeights(["large"], ranks))[0]["large"].zero_()
    assert (tmp_path / "0.safetensors").read_bytes() == before


@pytest.mark.parametrize("gone", ["removed", "replaced", "removed later"])
def test_a_weight_whose_file_is_gone(ranks, tmp_path, gone):
    path, expected = tmp_path / "1.safetensors", ranks[1]["large"].clone()
    if gone == "replaced":
        save_file({"large": torch.zeros(100, 300)}, tmp_path / "new")
        os.replace(tmp_path / "new", path)
    elif gone == "removed":
        path.unlink()
    shared = SharedWeights(["large"], ranks)
    path.unlink(missing_ok=True)
    assert files_of(shared, "large") == [1, 2 if gone == "removed later" else 0]
    assert torch.equal(received(shared)[1]["large"], expected)


def test_a_transposed_or_shifted_view_is_copied(ranks, tmp_path):
    raw = torch.from_file(str(tmp_path / "0.safetensors"), size=1001, dtype=torch.uint8)
    views = {"transposed": ranks[0]["large"].T, "bytes": raw[1:1001], "part": ranks[0]["large"][3:5]}
    shared = SharedWeights(list(views), [views])
    assert [shared.layout[0][name].file > 0 for name in views] == [False, True, True]
    assert_same(received(shared), [views])


def test_values_at_an_odd_offset_are_copied(tmp_path):
    """A safetensors header need not end at a multiple of the values' size."""
    save_file({"a": torch.arange(5.0)}, tmp_path / "even")
    content = (tmp_path / "even").read_bytes()
    length = int.from_bytes(content[:8], "little")
    odd = (length + 1).to_bytes(8, "little") + content[8 : 8 + length] + b" " + content[8 + length :]
    (tmp_path / "odd").write_bytes(odd)
    weights = torch.from_file(str(tmp_path / "odd"), size=len(odd), dtype=torch.uint8)[-20:].view(torch.uint8)
    shifted = torch.frombuffer(memoryview(weights.numpy()), dtype=torch.float32)
    shared = SharedWeights(["a"], [{"a": shifted}])
    assert files_of(shared, "a") == [0]
    assert torch.equal(received(shared)[0]["a"], torch.arange(5.0))


def test_a_file_that_is_mapped_often_is_opened_once(ranks, tmp_path):
    """As `ComponentWeights.read` maps a checkpoint: once for each weight."""
    files = [load_file(tmp_path / "0.safetensors") for _ in range(300)]
    weights = {str(number): file["large"] for number, file in enumerate(files)}
    shared = SharedWeights(list(weights), [weights])
    assert {slot.file for slot in shared.layout[0].values()} == {1} and len(shared.descriptors) == 2
    assert_same(received(shared), [weights])


def test_weights_of_more_files_than_one_message_takes_are_copied(tmp_path):
    weights = {}
    for number in range(200):
        save_file({"w": torch.full((2,), float(number))}, tmp_path / f"{number}.safetensors")
        weights[str(number)] = load_file(tmp_path / f"{number}.safetensors")["w"]
    shared = SharedWeights(list(weights), [weights])
    assert len(shared.descriptors) == 128
    assert_same(received(shared), [weights])


def test_a_weight_in_memory_that_ranks_share_is_copied_once():
    weight = torch.randn(1000)
    shared = SharedWeights(["w"], [{"w": weight}, {"w": weight}])
    assert os.fstat(shared.descriptors[0]).st_size < 2 * weight.nbytes
    assert_same(received(shared), [{"w": weight}, {"w": weight}])


@pytest.mark.ranks
def test_a_loaded_model_holds_its_weights_once(tmp_path):
    paths = [tmp_path / f"{rank}.safetensors" for rank in range(2)]
    for rank, path in enumerate(paths):
        save_file({"weight": torch.full((3,), 10.0**rank)}, path)
    program = Program.compile(Ranked(), (torch.ones(3),), world_size=2)
    model = on_ranks([load_file(path) for path in paths], program)
    for rank, process_id in enumerate(rank_process_ids()[-2:]):
        mapped = Path(f"/proc/{process_id}/maps").read_text()
        assert [str(path) in mapped for path in paths] == [rank == 0, rank == 1]
    assert torch.equal(model(torch.ones(3))["sum"], torch.full((3,), 11.0))

"""The streaming sharder writes what safetensors' own writer does."""

import gc
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.parallel.shard_writer import ShardedWeight, write_shards

TENSORS = {
    "b.row": torch.randn(8, 6),
    "a.rank": torch.arange(4, dtype=torch.int32),
    "c.ü": torch.randn(4, 4).bfloat16(),
    "d": torch.randn(3),
    "e": torch.arange(3),
}
WEIGHTS = {
    "b.row": ShardedWeight(shape=(8, 6), dtype=torch.bfloat16, dim=1),
    "a.rank": ShardedWeight(shape=(4,), dtype=torch.int32, dim=0),
    "c.ü": ShardedWeight(shape=(4, 4), dtype=torch.bfloat16, dim=0),
    "d": ShardedWeight(shape=(3,), dtype=torch.float32, dim=None),
    "e": ShardedWeight(shape=(3,), dtype=torch.int64, dim=None),
}


def expected(rank: int) -> dict[str, torch.Tensor]:
    cut = {
        "b.row": TENSORS["b.row"].bfloat16().chunk(2, dim=1)[rank].contiguous(),
        "a.rank": TENSORS["a.rank"].chunk(2)[rank].clone(),
        "c.ü": TENSORS["c.ü"].chunk(2)[rank].clone(),
    }
    return TENSORS | cut


def files(folder: Path) -> list[Path]:
    return [folder / "first", folder / "second"]


@pytest.mark.parametrize("rank", [0, 1])
def test_files_equal_safetensors_own(tmp_path, rank):
    written = write_shards(WEIGHTS, TENSORS.__getitem__, files(tmp_path), title="test")
    reference = tmp_path / "reference"
    save_file(expected(rank), reference)
    assert files(tmp_path)[rank].read_bytes() == reference.read_bytes()
    assert written == sum(file.stat().st_size for file in files(tmp_path))
    for name, tensor in load_file(files(tmp_path)[rank]).items():
        assert torch.equal(tensor, expected(rank)[name])


def test_reads_each_tensor_once(tmp_path):
    reads = []
    write_shards(WEIGHTS, lambda name: reads.append(name) or TENSORS[name], files(tmp_path), title="test")
    assert sorted(reads) == sorted(TENSORS)


def test_wrong_shape(tmp_path):
    with pytest.raises(ValueError, match=r"d: shape \(3,\) in the checkpoint, \(4,\) in the model"):
        wrong = {"d": ShardedWeight(shape=(4,), dtype=torch.float32, dim=None)}
        write_shards(wrong, TENSORS.__getitem__, files(tmp_path), title="test")


def test_a_disk_that_fills_up_ends_all_writers(tmp_path):
    files(tmp_path)[1].symlink_to("/dev/full")
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="No space left"):
        write_shards(WEIGHTS, TENSORS.__getitem__, files(tmp_path), title="test")
    gc.collect()
    assert not set(threading.enumerate()) - before

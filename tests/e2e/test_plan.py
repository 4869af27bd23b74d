"""The plan against exported artifacts: what they say they send, and the bytes of their weights."""

import json

import pytest

from optimum_pixart_neuron.artifact.compiled import Compiled, shard_files
from optimum_pixart_neuron.checkpoint.open import open_checkpoint
from optimum_pixart_neuron.checkpoint.options import CheckpointOptions
from optimum_pixart_neuron.planner import Request, predict

pytestmark = pytest.mark.e2e

# Exported by other tests, too.
OPTIONS = {"torch_dtype": "float32", "batch_size": 2}


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        pytest.param("context", {"exchange": "gather"}, marks=pytest.mark.soak),
        pytest.param("context", {"exchange": "all-to-all"}, marks=pytest.mark.soak),
        pytest.param("tensor", {}, marks=pytest.mark.soak),
    ],
    ids=["gather", "all-to-all", "tensor"],
)
def test_artifacts_are_as_planned(exported, tiny_checkpoint, mode, options):
    flags = {"parallel_mode": mode} if mode != "context" else {}
    folder = exported(tensor_parallel_size=4, **OPTIONS, **flags, **options)
    checkpoint = open_checkpoint(CheckpointOptions(model=str(tiny_checkpoint)))
    request = Request(tensor_parallel_size=4, parallel_mode=mode, **OPTIONS, **options)
    row = predict(request, "trn1", checkpoint=checkpoint)
    for part in row.components:
        name, cost = part.component.name, part.cost
        recorded = Compiled.read(folder / name).parallel
        assert cost.bytes_sent == sum(kind["bytes_sent"] for kind in recorded.collectives.values()), name
        assert sum(cost.collectives.values()) == sum(kind["count"] for kind in recorded.collectives.values()), name
        if recorded.ranks > 1:
            assert {_bytes_of_tensors(shard) for shard in shard_files(folder / name, 4)} == {cost.weights}, name


def _bytes_of_tensors(file) -> int:
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")

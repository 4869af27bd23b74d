"""The plan against exported artifacts: what they say they send, and the bytes of their weights."""

import pytest
from safetensors.torch import load_file

from optimum_pixart_neuron.artifact.compiled import Compiled, shard_files
from optimum_pixart_neuron.planner import Request, predict

from ..checkpoints import opened

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

# Exported by other tests, too.
OPTIONS = {"torch_dtype": "float32", "batch_size": 2}


@pytest.mark.parametrize(
    ("mode", "options"),
    [("context", {"exchange": "gather"}), ("context", {"exchange": "all-to-all"}), ("tensor", {})],
    ids=str,
)
def test_artifacts_are_as_planned(exported, tiny_checkpoint, mode, options):
    flags = {"parallel_mode": mode} if mode != "context" else {}
    folder = exported(tensor_parallel_size=4, **OPTIONS, **flags, **options)
    checkpoint = opened(tiny_checkpoint)
    request = Request(tensor_parallel_size=4, parallel_mode=mode, **OPTIONS, **options)
    row = predict(request, "trn1", checkpoint=checkpoint)
    for part in row.components:
        name, cost = part.component.name, part.cost
        recorded = Compiled.read(folder / name).parallel
        assert cost.bytes_sent == sum(kind["bytes_sent"] for kind in recorded.collectives.values()), name
        assert sum(cost.collectives.values()) == sum(kind["count"] for kind in recorded.collectives.values()), name
        if recorded.ranks > 1:
            shards = [load_file(shard).values() for shard in shard_files(folder / name, 4)]
            assert {sum(weight.nbytes for weight in shard) for shard in shards} == {cost.weights}, name

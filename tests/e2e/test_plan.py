"""The plan against exported artifacts: what they say they send, and the size of their shard files."""

import json

import pytest

from optimum_pixart_neuron.checkpoint.open import open_checkpoint
from optimum_pixart_neuron.export.options import ExportOptions
from optimum_pixart_neuron.planner import Geometry, Request, predict

pytestmark = pytest.mark.e2e

# Exported by other tests, too.
OPTIONS = {"torch_dtype": "float32", "batch_size": 2}


@pytest.mark.parametrize(
    ("mode", "options"),
    [("context", {"exchange": "gather"}), ("context", {"exchange": "all-to-all"}), ("tensor", {})],
    ids=["gather", "all-to-all", "tensor"],
)
def test_artifacts_are_as_planned(exported, tiny_checkpoint, mode, options):
    flags = {"parallel_mode": mode} if mode != "context" else {}
    folder = exported(tensor_parallel_size=4, **OPTIONS, **flags, **options)
    geometry = Geometry.of(open_checkpoint(ExportOptions(model=str(tiny_checkpoint), output="out")))
    row = predict(geometry, Request(**OPTIONS, **options), "trn1", mode=mode, ranks=4)
    for component in ("text_encoder", "transformer"):
        planned = row.component(component)
        stated = json.loads((folder / component / "config.json").read_text())["neuron"]["parallel"]["collectives"]
        assert planned.bytes_sent == sum(kind["bytes_sent"] for kind in stated.values()), component
        assert sum(each.count for each in planned.collectives) == sum(kind["count"] for kind in stated.values())
        shards = list((folder / component / "weights").glob("tp*_sharded_checkpoint.safetensors"))
        assert len(shards) == 4
        for shard in shards:
            # The file has a header besides, which matters for a model of a few kilobytes.
            header = 8 + int.from_bytes(shard.open("rb").read(8), "little")
            assert planned.footprint.weights == pytest.approx(shard.stat().st_size - header, rel=0.03), shard.name

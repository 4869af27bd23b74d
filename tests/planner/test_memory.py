"""Bytes of a core by formula against the export's own sharding and its count of what a program keeps alive."""

import pytest

from optimum_pixart_neuron.aten_graph import largest_live_set
from optimum_pixart_neuron.components.common.attention_kernel import KernelAttention
from optimum_pixart_neuron.planner import XL_2, Request, predict
from optimum_pixart_neuron.planner.memory import SDK_KERNELS

from .programs import ODD, trace, weight_bytes, with_layers

COMPONENTS = ("text_encoder", "transformer", "vae_decoder")


@pytest.mark.parametrize(("mode", "ranks"), [(None, 1), ("tensor", 16), ("context", 32)])
def test_weights_of_xl_2(mode, ranks):
    row = predict(XL_2, Request(), "trn1", mode=mode, ranks=ranks)
    for component in COMPONENTS:
        expected = weight_bytes(XL_2, row, component, side=1024, tokens=300, dtype="bfloat16")
        assert row.component(component).footprint.weights == expected, component


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(("mode", "ranks"), [(None, 1), ("tensor", 2), ("data", 4)])
def test_weights_of_another_geometry(mode, ranks, dtype):
    request = Request(height=256, width=256, sequence_length=24, torch_dtype=dtype)
    row = predict(ODD, request, "trn1", mode=mode, ranks=ranks)
    for component in COMPONENTS:
        expected = weight_bytes(ODD, row, component, side=256, tokens=24, dtype=dtype)
        assert row.component(component).footprint.weights == expected, component


@pytest.mark.parametrize(
    ("mode", "ranks", "side", "exchange"),
    [
        (None, 1, 512, None),
        ("tensor", 4, 1024, None),
        ("context", 8, 1024, "gather"),
        ("context", 32, 1024, "all-to-all"),
        ("context", 8, 512, "gather"),  # below what the kernel takes: written out
    ],
    ids=str,
)
def test_activations_are_what_the_export_counts(mode, ranks, side, exchange):
    geometry = with_layers(XL_2, 1)
    request = Request(height=side, width=side, exchange=exchange)
    row = predict(geometry, request, "trn1", mode=mode, ranks=ranks)
    own_tokens = (side // 16) ** 2 // row.deployment.sequence_ranks
    queries = (side // 16) ** 2 if exchange == "all-to-all" else own_tokens
    kernel = KernelAttention(name=SDK_KERNELS[0], lnc=1) if queries >= 512 else None
    rows = 2 if ranks > 1 else 1
    for component, batch in (("text_encoder", 1), ("transformer", rows)):
        program = trace(geometry, row, component, side=side, tokens=300, rows=batch, kernel=kernel)
        counted = largest_live_set(program.graph.graph_module.graph, len(program.graph.weight_names))
        assert row.component(component).footprint.activations == pytest.approx(counted, rel=0.1), component


@pytest.mark.parametrize("side", [256, 1024])
def test_activations_of_the_vae_decoder(side):
    row = predict(XL_2, Request(height=side, width=side), "trn1", mode=None, ranks=1)
    program = trace(XL_2, row, "vae_decoder", side=side, tokens=300, rows=1)
    counted = largest_live_set(program.graph.graph_module.graph, len(program.graph.weight_names))
    assert row.component("vae_decoder").footprint.activations == pytest.approx(counted, rel=0.01)


def test_all_weights_and_the_largest_activations_have_to_fit():
    row = predict(XL_2, Request(torch_dtype="float32"), "inf2.xlarge", mode=None, ranks=1)
    parts = [part.footprint for part in row.components]
    assert row.needed_bytes == sum(part.weights for part in parts) + max(part.activations for part in parts)
    assert not row.fits  # T5-XXL alone is 19 GB
    assert predict(XL_2, Request(), "inf2.xlarge", mode=None, ranks=1).fits
    assert predict(XL_2, Request(torch_dtype="float32"), "inf2.xlarge", mode="tensor", ranks=2).fits


def test_tiles_bound_what_decoding_needs():
    whole, tiled = (
        predict(XL_2, Request(height=2048, width=2048, vae_tile_size=tile), "trn1", mode="context", ranks=8)
        for tile in (2048, 512)
    )
    assert tiled.component("vae_decoder").footprint.activations < whole.component("vae_decoder").footprint.activations
    # Five tiles of 512 px a side, each sharing at least a quarter with its neighbour, on 8 cores.
    assert (tiled.component("vae_decoder").core_runs, tiled.component("vae_decoder").runs) == (25, 4)
    assert whole.component("vae_decoder").runs == 1

"""What a core computes, holds and sends for one image, counted on the traced program of the released VAE's geometry.

SDXL's `vae/config.json` (diffusers 0.35), 1024 px, bfloat16.
"""

from functools import cache

import pytest
import torch

from optimum_pixart_neuron.components.vae.bands import LARGEST_SCORES
from optimum_pixart_neuron.components.vae.graph import PixArtVaeDecoder
from optimum_pixart_neuron.components.vae.spec import VAE
from optimum_pixart_neuron.neuron.compiler import environment_variables
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
from optimum_pixart_neuron.program.cost import Cost
from optimum_pixart_neuron.program.dry_run import record_graph
from optimum_pixart_neuron.program.program import program_of_rank_0

CONFIG = VAE.released
LATENTS = (torch.empty(1, 4, 128, 128, device="meta"),)


def build(ranks: int) -> PixArtVaeDecoder:
    model = PixArtVaeDecoder(CONFIG, torch.bfloat16)
    if ranks > 1:
        model.divide_rows(ranks=ranks)
    return model


@cache
def cost(ranks: int) -> Cost:
    ensure_sdk()
    with environment_variables({"LOCAL_WORLD_SIZE": str(ranks)}):
        return Cost.of(lambda: build(ranks), LATENTS, ranks=ranks)


@cache
def largest(ranks: int) -> tuple[int, int]:
    """Elements of the largest output of a convolution, and bytes of the largest scores."""
    with environment_variables({"LOCAL_WORLD_SIZE": str(ranks)}), program_of_rank_0(ranks, 1):
        with torch.device("meta"):
            model = build(ranks)
        graph, _ = record_graph(model, LATENTS)
    convolved, scores = 0, 0
    for node in graph.nodes:
        if node.target is torch.ops.aten.convolution.default:
            convolved = max(convolved, node.meta["val"].numel(), node.args[0].meta["val"].numel())
        if node.target is torch.ops.aten._softmax.default:
            scores = max(scores, node.meta["val"].numel() * node.meta["val"].itemsize)
    return convolved, scores


@pytest.mark.seconds
@pytest.mark.parametrize("ranks", [2, 8])
def test_a_core_has_its_share(ranks):
    assert cost(ranks).flops <= 1.1 / ranks * cost(1).flops
    assert largest(ranks)[0] <= 1.2 / ranks * largest(1)[0]
    assert largest(ranks)[1] <= LARGEST_SCORES < largest(1)[1]


@pytest.mark.seconds
def test_what_a_core_sends():
    """Edge rows of 36 convolutions, statistics of 30 norms, keys and values once, the image once."""
    assert cost(8).bytes_sent <= 200e6
    assert sum(cost(8).collectives.values()) == sum(cost(2).collectives.values())

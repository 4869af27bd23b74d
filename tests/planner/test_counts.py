"""What a plan counts: FLOPs, bytes of weights and bytes sent of PixArt-Sigma-XL/2, as its whole programs have them."""

import pytest
import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import T5Config, T5EncoderModel

from optimum_pixart_neuron.components.registry import DENOISER
from optimum_pixart_neuron.planner import PlanRow, Released, Request, predict
from optimum_pixart_neuron.planner import component_plan as counting

pytestmark = pytest.mark.seconds


def planned(mode: str | None, ranks: int, instance: str = "trn1", **options) -> PlanRow:
    return predict(Request(parallel_mode=mode, tensor_parallel_size=ranks, **options), instance)


@pytest.mark.parametrize(
    ("mode", "ranks", "sent", "collectives"),
    [
        ("tensor", 4, 2_378_170_368, 3 * 28),
        ("context", 4, 264_634_368, 28 + 1),
        ("context", 8, 198_639_616, 2 * 28 + 1),
        ("data", 8, 0, 0),
    ],
)
def test_bytes_sent_in_a_step(mode, ranks, sent, collectives):
    row = planned(mode, ranks)
    assert row.bytes_sent_per_step == sent
    assert sum(row.component(DENOISER.name).cost.collectives.values()) == collectives


@pytest.mark.parametrize(
    ("mode", "ranks", "weights"),
    [
        (None, 1, (9_536_137_216, 1_221_712_192, 98_980_398)),
        # Rank numbers are weights of a program that divides tokens, or rows of a picture.
        ("tensor", 16, (843_127_936, 106_340_032, 98_980_402)),
        ("context", 32, (553_360_960, 1_221_712_204, 98_980_402)),
    ],
)
def test_bytes_of_weights(mode, ranks, weights):
    assert tuple(part.cost.weights for part in planned(mode, ranks).components) == weights


def test_flops_are_those_of_the_originals():
    """By torch's own counter on unmodified diffusers and transformers, every block: our graphs add no product."""
    released, row = Released(), planned(None, 1, attention="math")  # a kernel fills up keys of text
    conditions = {"resolution": None, "aspect_ratio": None}
    with torch.device("meta"), torch.no_grad():
        text = T5EncoderModel(T5Config(**released.config("text_encoder")))
        transformer = PixArtTransformer2DModel.from_config(released.config("transformer"))
        vae = AutoencoderKL.from_config(released.config("vae"))
        latents, prompt = torch.empty(1, 4, 128, 128), torch.empty(1, 300, 4096)
        for name, run in {
            "text_encoder": lambda: text(torch.ones(1, 300).long()),
            "transformer": lambda: transformer(latents, prompt, timestep=torch.ones(1), added_cond_kwargs=conditions),
            "vae_decoder": lambda: vae.decode(latents),
        }.items():
            with FlopCounterMode(display=False) as counter:
                run()
            assert row.component(name).cost.flops == pytest.approx(counter.get_total_flops(), rel=0.001), name
    # Two prompts, 20 guided steps of 13.27 TFLOP each, one decode at 1024 px.
    encoding, steps, decoding = (part.cost.flops * part.core_runs for part in row.components)
    assert steps == pytest.approx(20 * 13.267159547904e12, rel=1e-9)
    assert row.flops_per_image == encoding + steps + decoding == pytest.approx(281.4e12, rel=0.001)


def test_a_plan_counts_few_programs():
    """Two for each component and number of ranks, however many instances, modes and exchanges have the same."""
    before = counting._counted.cache_info().misses
    rows = [planned("data", ranks, instance) for ranks in (2, 4, 8) for instance in ("inf2", "trn1", "trn2")]
    rows += [planned("data", 8, instance, num_inference_steps=50) for instance in ("inf2", "trn1")]
    # T5 on 2, 4 and 8 ranks, the transformer with one and with two blocks, the decoder.
    assert counting._counted.cache_info().misses - before <= 3 * 2 + 2 + 1
    assert len({row.component(DENOISER.name).cost.flops for row in rows}) == 1

"""FLOPs by formula against torch's counter: unmodified upstream modules, and the programs of single ranks."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import T5Config, T5EncoderModel

from optimum_pixart_neuron.planner import XL_2, Geometry, Request, predict
from optimum_pixart_neuron.planner.flops import text_encoder_work, transformer_work, vae_decoder_work
from optimum_pixart_neuron.planner.placement import TransformerShare

from .programs import MODES, ODD, UPSTREAM_ONLY, flops, small_programs, vae_config

CONDITIONS = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}


@pytest.fixture(autouse=True)
def on_meta():
    with torch.device("meta"), torch.no_grad():
        yield


def counted(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("side", [256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("geometry", [XL_2, ODD], ids=lambda geometry: geometry.name)
def test_transformer(geometry, side):
    cells, tokens, size = side // geometry.vae.scale, 300, geometry.transformer
    blocks = 2  # the formula is linear in them, the module's construction too
    config = {**geometry.config("transformer"), **UPSTREAM_ONLY, "num_layers": blocks, "sample_size": cells}
    model = PixArtTransformer2DModel.from_config(config)
    arguments = (torch.empty(2, size.in_channels, cells, cells), torch.empty(2, tokens, size.caption_channels))
    total = counted(lambda: model(*arguments, timestep=torch.empty(2), **CONDITIONS))
    share = TransformerShare(given_rows=2, rows=2, tokens=(cells // size.patch) ** 2, text_tokens=tokens)
    assert transformer_work(replace(size, layers=blocks), share).flops == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize(
    ("geometry", "tokens", "feed_forward"),
    [(XL_2, 300, "gated-gelu"), (ODD, 120, "gated-gelu"), (ODD, 120, "relu")],
    ids=["XL/2", "odd", "not gated"],
)
def test_text_encoder(geometry, tokens, feed_forward):
    config = {**geometry.config("text_encoder"), "feed_forward_proj": feed_forward}
    model = T5EncoderModel(T5Config(**config))
    total = counted(lambda: model(torch.ones(3, tokens, dtype=torch.int64)))
    size = Geometry("", {"text_encoder": config}).text_encoder
    assert text_encoder_work(size, rows=3, tokens=tokens, ranks=1).flops == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize("side", [256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("geometry", [XL_2, ODD], ids=lambda geometry: geometry.name)
def test_vae_decoder(geometry, side):
    vae = AutoencoderKL.from_config(vae_config(geometry))
    cells = {"height": side // geometry.vae.scale, "width": side // geometry.vae.scale // 2}
    latents = torch.empty(1, geometry.vae.latent_channels, *cells.values())
    assert vae_decoder_work(geometry.vae, **cells).flops == pytest.approx(
        counted(lambda: vae.decode(latents)), rel=0.01
    )


def test_a_whole_image_of_xl_2():
    """281.4 TFLOP: two prompts, 20 guided steps, one decode at 1024 px; counted by torch on the whole modules."""
    row = predict(XL_2, Request(), "trn1", mode=None, ranks=1)
    assert row.flops_per_image == pytest.approx(281.4e12, rel=0.001)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_one_rank_of_each_mode(mode):
    """Exactly what the program of a rank computes, duplicates included."""
    with torch.device("cpu"):
        row, programs = small_programs(mode)
    for component, program in programs.items():
        assert row.component(component).work.flops == flops(program), component

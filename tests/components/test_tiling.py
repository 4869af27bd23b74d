"""Tiles cover the image, their weights add up to one, and the blended image is the untiled one where it can be."""

import math
from itertools import pairwise

import pytest
import torch

from optimum_pixart_neuron.components.vae.tiling import OVERLAP, TiledDecoder, tile_starts
from tests.parity import psnr


def nearest(latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """A decoder without seams: every pixel comes from its own cell."""
    return {"sample": latents[:, :3].repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)}


@pytest.mark.parametrize(("length", "tile"), [(128, 128), (129, 128), (256, 128), (512, 128), (40, 32), (64, 24)])
def test_tiles_cover_evenly_and_overlap_by_a_quarter(length, tile):
    starts = tile_starts(length, tile)
    assert starts[0] == 0
    assert starts[-1] + tile == length
    assert all(first + tile - second >= int(OVERLAP * tile) for first, second in pairwise(starts))


@pytest.mark.parametrize("size", [(32, 32), (40, 64), (33, 57)])
def test_a_decoder_without_seams_is_reproduced(size):
    """The weights of the tiles add up to one."""
    latents = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    tiled = TiledDecoder(nearest, [(32, 32)], 8)(latents)["sample"]
    assert torch.allclose(tiled, nearest(latents)["sample"], atol=1e-5)


def test_all_tiles_of_all_images_go_to_the_decoder_at_once():
    batches = []
    decode = TiledDecoder(lambda tiles: batches.append(tuple(tiles.shape)) or nearest(tiles), [(16, 16)], 8)
    decode(torch.zeros(2, 4, 28, 28))
    assert batches == [(2 * 4, 4, 16, 16)]


@torch.no_grad()
@pytest.mark.soak
def test_a_real_decoder_at_1024_pixels_on_a_smooth_latent(tiny_checkpoint):
    """At least 40 dB, and not below diffusers' own tiling with tiles of the same size.

    Each tile has group-norm statistics of its own, so tiles agree with the whole where they hold the same content:
    waves of 32 cells, of which every tile sees whole ones.
    """
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(tiny_checkpoint / "vae").eval()
    down, right = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    waves = [right, down, right + down, right - down]
    smooth = 0.7 * torch.stack([torch.sin(wave * 2 * math.pi / 32 + shift) for shift, wave in enumerate(waves)])[None]

    def decode(latents: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sample": torch.cat([vae.decode(tile[None]).sample for tile in latents])}

    whole = decode(smooth)["sample"]
    ours = psnr(TiledDecoder(decode, [(96, 96)], 8)(smooth)["sample"] / 2, whole / 2)
    vae.tile_latent_min_size, vae.tile_sample_min_size = 96, 96 * 8
    assert ours >= 40
    assert ours >= psnr(vae.tiled_decode(smooth).sample / 2, whole / 2)

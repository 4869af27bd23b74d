"""The VAE on bands of rows against diffusers' own, in float32: the ranks are threads that meet where they gather.

Tolerance 1e-4 absolute on values of order one, as on one core: float32 sums in another order, about 1e-6 a layer. A
rank that takes its neighbour's rows wrong, or statistics of its own rows alone, is off by more than 1e-2.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import AutoencoderKL

from optimum_pixart_neuron.components.vae.bands import Bands, divide_rows
from optimum_pixart_neuron.components.vae.graph import PixArtVaeDecoder, PixArtVaeEncoder
from optimum_pixart_neuron.cpu.products import FasterBfloat16


class Meeting:
    """`gather` of W threads."""

    def __init__(self, ranks: int) -> None:
        self.barrier, self.parts = threading.Barrier(ranks, timeout=60), [None] * ranks

    def gather(self, rank: int, tensor: torch.Tensor) -> torch.Tensor:
        self.parts[rank] = tensor
        self.barrier.wait()
        together = torch.stack(self.parts)
        self.barrier.wait()
        return together


def run(part_class, vae, tensor, ranks, dtype=torch.float32):
    """What every rank returns."""
    meeting = Meeting(ranks)

    def rank_program(rank: int):
        part = part_class(dict(vae.config), torch.float32)
        part.load_state_dict({name: vae.state_dict()[name] for name in part.state_dict()}, strict=True)
        part.to(dtype)
        number = torch.tensor([rank], dtype=torch.int32)
        part.bands = Bands(ranks, lambda: number, lambda sent: meeting.gather(rank, sent))
        divide_rows(part, part.bands)
        with torch.no_grad():
            (result,) = part(tensor).values()
        return result

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(rank_program, range(ranks)))


# Latent rows and columns: wide, tall; the last two do not divide into the bands, the last leaves ranks idle.
@pytest.mark.seconds
@pytest.mark.parametrize(("ranks", "size"), [(2, (8, 24)), (4, (24, 8)), (4, (13, 16)), (8, (5, 8))])
@torch.no_grad()
def test_decoder_on_bands(vae, ranks, size):
    latents = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(5))
    expected = vae.decode(latents).sample
    for result in run(PixArtVaeDecoder, vae, latents, ranks):
        assert result.shape == expected.shape
        assert (result - expected).abs().max() < 1e-4


@pytest.mark.seconds
@pytest.mark.parametrize(("ranks", "size"), [(2, (64, 96)), (4, (72, 64))])
@torch.no_grad()
def test_encoder_on_bands(vae, ranks, size):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(6))
    expected = vae.encode(images).latent_dist.parameters
    for result in run(PixArtVaeEncoder, vae, images, ranks):
        assert (result - expected).abs().max() < 1e-4


@pytest.mark.seconds
@torch.no_grad()
def test_scores_are_bounded_and_chunks_change_nothing(vae, monkeypatch):
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    seen = []

    def attend(query, key, value):
        seen.append(4 * query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2])
        return original(query, key, value)

    from optimum_pixart_neuron.components.vae import bands

    original = bands.attend
    monkeypatch.setattr(bands, "attend", attend)
    monkeypatch.setattr(bands, "LARGEST_SCORES", 50 * 256 * 4)
    expected = vae.decode(latents).sample
    for result in run(PixArtVaeDecoder, vae, latents, 2):
        assert (result - expected).abs().max() < 1e-4
    assert len(seen) == 2 * 3  # 128 queries a rank in chunks of 50
    assert max(seen) <= 50 * 256 * 4


@pytest.mark.seconds
@torch.no_grad()
def test_bfloat16_is_as_good_as_diffusers_in_bfloat16(vae):
    latents = torch.randn(2, 4, 12, 16, generator=torch.Generator().manual_seed(8))
    expected = vae.decode(latents).sample
    half = AutoencoderKL.from_config(vae.config).to(torch.bfloat16).eval()
    half.load_state_dict(vae.state_dict())
    with FasterBfloat16():
        theirs = (half.decode(latents.bfloat16()).sample.float() - expected).square().mean().sqrt()
    for result in run(PixArtVaeDecoder, vae, latents, 4, torch.bfloat16):
        # The two round at other places; over seeds their errors are within a tenth of each other.
        assert (result - expected).square().mean().sqrt() < 1.1 * theirs

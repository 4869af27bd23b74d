"""One export of several sizes: pictures of every size against unmodified diffusers in float32, weights once.

55 dB as in test_parity: the programs compute in float32, so what is left is the order of sums.
"""

import json
from pathlib import Path

import pytest
import torch

from ..parity import psnr
from .conftest import PROMPTS, load_ours, load_stock, pipeline_arguments

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

SIZES = ((256, 256), (192, 336), (336, 192))
"""The square of the tiny checkpoint and two of its aspect ratios: 16 x 16, 12 x 21 and 21 x 12 tokens."""
NAMES = tuple(f"{height}x{width}" for height, width in SIZES)


def latents(size: tuple[int, int]) -> torch.Tensor:
    height, width = size
    return torch.randn(1, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(height))


def drawn(pipe, size, **arguments):
    height, width = size
    given = {**pipeline_arguments(1), "num_inference_steps": 2, "height": height, "width": width, **arguments}
    return pipe(PROMPTS[0], **{"latents": latents(size), **given}).images[0]


@pytest.fixture(scope="module")
def references(reference):
    return {size: drawn(reference, size, latents=latents(size)) for size in SIZES}


def check_every_size(folder, references) -> None:
    pipe = load_ours(folder)
    assert pipe.compiled_sizes == SIZES
    for size in SIZES:
        image = drawn(pipe, size, latents=latents(size))
        assert image.shape == (*size, 3)
        assert psnr(image, references[size]) >= 55
    stock = load_stock(folder)
    arguments = {**pipeline_arguments(1), "num_inference_steps": 2, "latents": latents(SIZES[0])}
    assert psnr(stock(PROMPTS[0], **arguments).images[0], references[SIZES[0]]) >= 55


def weight_bytes(folder: Path, component: str) -> int:
    return sum(path.stat().st_size for path in (folder / component / "weights").iterdir())


@pytest.fixture(scope="module")
def folder(exported):
    return exported(tensor_parallel_size=4, torch_dtype="float32", sizes=NAMES)


def test_every_size_is_diffusers_picture(folder, references):
    check_every_size(folder, references)


def test_weights_are_those_of_one_size(folder, exported):
    """The shared text encoder, the transformer and the decoder in bands: one program file, one set of weights each."""
    single = exported(tensor_parallel_size=4, torch_dtype="float32")
    for component in ("text_encoder", "transformer", "vae_decoder"):
        assert weight_bytes(folder, component) == weight_bytes(single, component)
        assert [path.name for path in (folder / component).glob("**/*.neuron")] == ["model.neuron"]
    programs = json.loads((folder / "transformer" / "config.json").read_text())["neuron"]["programs"]
    assert [program["name"] for program in programs] == list(NAMES)
    assert "programs" not in json.loads((folder / "text_encoder" / "config.json").read_text())["neuron"]
    manifest = json.loads((folder / "neuron_manifest.json").read_text())
    shapes = [program["inputs"][0]["shape"] for program in manifest["components"]["transformer"]["programs"]]
    assert shapes == [[2, 4, 32, 32], [2, 4, 24, 42], [2, 4, 42, 24]]

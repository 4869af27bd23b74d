"""The released transformer's geometry once: 28 blocks, 16 heads of 72, captions of 4096, at 512 px over two ranks.

Random weights in bfloat16; the text encoder has the released width and one small layer, the VAE is the tiny one.
Run with `pytest -m slow -s tests/e2e/test_full_geometry.py` to see the errors.
"""

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.cpu.products import FasterBfloat16
from tests.tiny import build_tiny_checkpoint

from .conftest import export_to, load_stock

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONDITIONS = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}, "return_dict": False}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = build_tiny_checkpoint(
        tmp_path_factory.mktemp("xl2") / "pixart-sigma-xl2-512",
        dtype=torch.bfloat16,
        heads=16,
        head_dim=72,
        layers=28,
        caption_dim=4096,
        text_heads=64,
        text_ff=1024,
        text_layers=1,
        sample_size=64,
    )
    # 28 blocks of the tiny model's strength amplify any rounding until nothing can be compared; in trained ones each
    # adds little to what it is given.
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for name in weights:
        if name.endswith(("to_out.0.weight", "ff.net.2.weight")):
            weights[name] *= (3 * 28) ** -0.5
    save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    """The guidance pair of one image, with padding."""
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(2, 4, 64, 64, generator=generator),
        "encoder_hidden_states": torch.randn(2, 300, 4096, generator=generator),
        "timestep": torch.tensor([999.0, 999.0]),
        "encoder_attention_mask": (torch.arange(300) < torch.tensor([[12], [40]])).long(),
    }


@pytest.fixture(scope="module")
def predictions(checkpoint, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """diffusers' own, in float32 and in bfloat16."""
    theirs = PixArtTransformer2DModel.from_pretrained(checkpoint, subfolder="transformer").float()
    low = {name: tensor.bfloat16() if tensor.ndim > 2 else tensor for name, tensor in inputs.items()}
    with torch.no_grad(), FasterBfloat16():
        return theirs(**inputs, **CONDITIONS)[0], theirs.bfloat16()(**low, **CONDITIONS)[0].float()


@pytest.mark.parametrize("mode", ["tensor", "context"])
def test_xl_2_over_two_ranks(checkpoint, inputs, predictions, tmp_path, mode):
    pipe = load_stock(export_to(tmp_path / "exported", checkpoint, tensor_parallel_size=2, parallel_mode=mode))
    sample, (expected, upstream) = pipe.transformer(**inputs, return_dict=False)[0], predictions
    error, their_error = relative_rms(sample, expected), relative_rms(upstream, expected)
    print(f"{mode}: relative RMS error {error:.4g}, of diffusers in bfloat16 {their_error:.4g}")
    # The rounding of 28 blocks in bfloat16; at most 3 dB more than diffusers', as for the pictures.
    assert error <= their_error * 2**0.5
    assert pipe("a lighthouse", num_inference_steps=1, output_type="np").images.shape == (1, 512, 512, 3)


def relative_rms(result: torch.Tensor, reference: torch.Tensor) -> float:
    """Root mean square of the difference over that of the reference."""
    return ((result.double() - reference.double()).pow(2).mean() / reference.double().pow(2).mean()).sqrt().item()

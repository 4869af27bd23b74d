"""diffusers' autoencoder, and the latents and images of its comparison with the compiled programs."""

from diffusers import AutoencoderKL
from torch import Generator, Tensor

from ..common.original import Original, Samples, smooth

_DEFAULT_SCALING = 0.18215  # of AutoencoderKL


def _latent_samples(wanted: Samples) -> dict[str, Tensor]:
    """Latents of two images or tiles at least, in the scale that the decoder takes: `AutoencoderKL.decode`'s."""
    rows, scaling = wanted.whole_runs(2), wanted.config.get("scaling_factor", _DEFAULT_SCALING)
    return {"latent_sample": smooth(rows, wanted.image_shape, Generator().manual_seed(2)) / scaling}


def _image_samples(wanted: Samples) -> dict[str, Tensor]:
    """Two images at least, in [-1, 1]."""
    rows = wanted.whole_runs(2)
    return {"sample": smooth(rows, wanted.image_shape, Generator().manual_seed(3)).clamp(-2, 2) / 2}


DECODER = Original(
    build=AutoencoderKL.from_config,
    call=lambda model, latent_sample: model.decode(latent_sample).sample,
    samples=_latent_samples,
)
ENCODER = Original(
    build=AutoencoderKL.from_config,
    call=lambda model, sample: model.encode(sample).latent_dist.parameters,
    samples=_image_samples,
)

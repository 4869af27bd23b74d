"""The two graphs of the VAE: decoder (latents to image) and encoder (image to latents)."""

import torch
from diffusers import AutoencoderKL
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ..common.attention import write_out_attention
from ..common.precision import normalize_in_float32
from .bands import Bands, divide_rows


class _ExpandUpsample2D(Upsample2D):
    """Nearest-neighbour upsampling by 2 as broadcast and reshape, then the upstream convolution.

    `F.interpolate` lowers to one gather per pixel with float64 coordinate arithmetic; this form needs neither.
    """

    def forward(self, hidden_states: Tensor, output_size: int | None = None) -> Tensor:
        batch, channels, height, width = hidden_states.shape
        doubled = hidden_states[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        return self.conv(doubled.reshape(batch, channels, 2 * height, 2 * width))


class _VaePart(nn.Module):
    """One half of an `AutoencoderKL`, under upstream's parameter names; convolutions in `dtype`, norms in float32."""

    bands: Bands | None = None

    def _prepare(self, dtype: torch.dtype) -> None:
        self.to(dtype)
        for child in self.modules():
            if type(child) is Upsample2D:
                child.__class__ = _ExpandUpsample2D
        normalize_in_float32(self)
        write_out_attention(self)
        self.eval()

    def divide_rows(self, *, ranks: int) -> None:
        """Become one rank's part of `parallel.split.RowSplit`, in place. Called inside NxD's parallel state."""
        from neuronx_distributed.parallel_layers.layers import SPMDRank
        from neuronx_distributed.parallel_layers.mappings import gather_from_tensor_model_parallel_region_with_dim

        def gather(tensor: Tensor) -> Tensor:
            return gather_from_tensor_model_parallel_region_with_dim(tensor.unsqueeze(0), 0)

        self.bands = Bands(ranks, lambda: self.band_rank.get_rank(), gather)
        divide_rows(self, self.bands)
        self.band_rank = SPMDRank(ranks)

    def _pick(self, whole: Tensor, latent_rows: int) -> Tensor:
        if self.bands is None:
            return whole
        self.bands.settle(latent_rows)
        return self.bands.pick(whole)

    def _join(self, part: Tensor) -> Tensor:
        return part if self.bands is None else self.bands.join(part)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class PixArtVaeDecoder(_VaePart):
    """`post_quant_conv` and `decoder` of an `AutoencoderKL` in one graph.

    Args:
        config: the checkpoint's `vae/config.json`.
        dtype: dtype of weights and convolutions.
    """

    def __init__(self, config: dict, dtype: torch.dtype) -> None:
        super().__init__()
        vae = AutoencoderKL.from_config(config)
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder
        self._prepare(dtype)

    def forward(self, latent_sample: Tensor) -> dict[str, Tensor]:
        """Decode unscaled latents (B, latent_channels, h, w) float32 to `sample` (B, 3, 8h, 8w) float32 in [-1, 1]."""
        latents = self._pick(latent_sample.to(self.dtype), latent_sample.shape[2])
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return {"sample": self._join(self.decoder(latents)).float()}


class PixArtVaeEncoder(_VaePart):
    """`encoder` and `quant_conv` of an `AutoencoderKL` in one graph; arguments as `PixArtVaeDecoder`."""

    def __init__(self, config: dict, dtype: torch.dtype) -> None:
        super().__init__()
        vae = AutoencoderKL.from_config(config)
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv
        self._prepare(dtype)

    def forward(self, sample: Tensor) -> dict[str, Tensor]:
        """Encode an image (B, 3, H, W) float32 in [-1, 1] to `latent_parameters` (B, 2 latent_channels, H/8, W/8)."""
        scale = 2 ** (len(self.encoder.down_blocks) - 1)
        moments = self.encoder(self._pick(sample.to(self.dtype), sample.shape[2] // scale))
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return {"latent_parameters": self._join(moments).float()}

"""The diffusion transformer's graph: one denoising prediction."""

import torch
from diffusers import PixArtTransformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor, nn

from ..common.attention import AttentionByKernel, write_out_attention
from ..common.precision import normalize_in_float32
from .context import split_by_context


class PixArtTransformer(PixArtTransformer2DModel):
    """diffusers' PixArt transformer at one image size, with float32 borders.

    Latents and timesteps enter, and predictions leave, as float32: the stock loader casts both inputs to one dtype,
    and bfloat16 would turn timestep 999 into 1000. Weights and matmuls have the dtype the module is converted to;
    the position table stays a float32 weight, `pos_embed.pos_embed`.
    """

    @classmethod
    def build(
        cls,
        config: dict,
        *,
        latent_height: int,
        latent_width: int,
        dtype: torch.dtype,
        kernel: AttentionByKernel | None = None,
    ) -> "PixArtTransformer":
        """Make the module, uninitialised, for latents of (latent_height, latent_width) cells.

        Args:
            config: the checkpoint's `transformer/config.json`.
            dtype: dtype of weights and matmuls.
            kernel: computes self-attention, and masked cross-attention where it can; None for the written-out form.
        """
        model = cls.from_config(config).to(dtype)
        patches = model.pos_embed
        patches.height, patches.width = latent_height // patches.patch_size, latent_width // patches.patch_size
        # A non-persistent buffer would be baked into the program as a constant of up to 75 MB (2048 px).
        del patches.pos_embed
        table = torch.empty(1, patches.height * patches.width, model.inner_dim, dtype=torch.float32)
        patches.pos_embed = nn.Parameter(table, requires_grad=False)
        normalize_in_float32(model)
        write_out_attention(model)
        for block in model.transformer_blocks:
            block.attn1.processor.kernel = block.attn2.processor.kernel = kernel
        return model.eval()

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, timestep: Tensor, encoder_attention_mask: Tensor
    ) -> tuple[Tensor]:
        """Predict the noise (and its variance) of latents at their timesteps.

        Args:
            hidden_states: latents (B, channels, h, w) float32.
            encoder_hidden_states: text embeddings (B, S, caption_channels) float32.
            timestep: (B,) float32.
            encoder_attention_mask: (B, S) int64, 1 for text and 0 for padding.

        Returns:
            a tuple with the prediction (B, out_channels, h, w) float32, as diffusers returns it.
        """
        (sample,) = super().forward(
            hidden_states.to(self.dtype),
            encoder_hidden_states.to(self.dtype),
            timestep=timestep,
            encoder_attention_mask=encoder_attention_mask,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )
        return (sample.float(),)

    def divide_context(self, *, ranks: int, guidance_groups: int, exchange: str) -> None:
        """Become one rank's part of `parallel.split.ContextSplit`."""
        split_by_context(self, ranks=ranks, guidance_groups=guidance_groups, exchange=exchange)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matmuls; the position table alone is kept in float32."""
        return self.proj_out.weight.dtype


def position_table(config: dict, latent_height: int, latent_width: int) -> Tensor:
    """The sin/cos table (1, tokens, width) float32 that diffusers' `PatchEmbed` adds for this latent size.

    Computed on the host: in the graph diffusers 0.35 computes it in float64 for any size but the native one.

    Args:
        config: the checkpoint's `transformer/config.json`.
    """
    patch, native = config["patch_size"], config["sample_size"] // config["patch_size"]
    scale = config.get("interpolation_scale")
    table = get_2d_sincos_pos_embed(
        config["num_attention_heads"] * config["attention_head_dim"],
        (latent_height // patch, latent_width // patch),
        base_size=native,
        interpolation_scale=max(config["sample_size"] // 64, 1) if scale is None else scale,
        output_type="pt",
    )
    return table.float().unsqueeze(0)

"""The diffusion transformer's graph: one denoising prediction."""

import torch
from diffusers import PixArtTransformer2DModel
from diffusers.models.embeddings import PatchEmbed, get_2d_sincos_pos_embed
from torch import Tensor

from ..common.attention import write_out_attention
from ..common.attention_kernel import KernelAttention
from ..common.precision import normalize_in_float32
from .configuration import position_scale, takes_conditions
from .context import split_by_context
from .size_conditions import fix_conditions


class PixArtTransformer(PixArtTransformer2DModel):
    """diffusers' PixArt transformer at one image size, with float32 borders.

    Latents and timesteps enter, and predictions leave, as float32: the stock loader casts both inputs to one dtype,
    and bfloat16 would turn timestep 999 into 1000. Weights and matmuls have the dtype the module is converted to.
    What depends on the image size is a constant of the module, so that programs of several sizes share all weights.
    """

    @classmethod
    def build(
        cls,
        config: dict,
        *,
        latent_height: int,
        latent_width: int,
        pixels_per_cell: int = 8,
        dtype: torch.dtype,
        kernel: KernelAttention | None = None,
    ) -> "PixArtTransformer":
        """Make the module, uninitialised, for latents of (latent_height, latent_width) cells.

        Args:
            pixels_per_cell: of the image, a side; of the VAEs that PixArt was trained with by default.
            dtype: dtype of weights and matmuls.
            kernel: computes self-attention, and masked cross-attention where it can; None for the written-out form.
        """
        model = cls.from_config(config).to(dtype)
        fix_positions(model.pos_embed, *position_tables(dict(model.config), latent_height, latent_width))
        if takes_conditions(model.config):
            fix_conditions(model.adaln_single.emb, latent_height * pixels_per_cell, latent_width * pixels_per_cell)
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

    divide_context = split_by_context

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matmuls; the position tables alone are kept in float32."""
        return self.proj_out.weight.dtype


class _SizedPatchEmbed(PatchEmbed):
    """diffusers' patch embedding at one size; see `fix_positions`.

    The position table is separable: half of its channels encode the column, half the row. So two tables of one
    dimension hold it, at most 0.3 MB each (2048 px), where the whole one is 75 MB. They are constants of the program
    and not rows of a weight: NxD bakes a buffer that is not persistent into the program (0.15, `trace/hlo_utils.py`
    moves weights alone into their layout), so a size that is added changes neither the weight files nor the programs
    of the others, as a longer weight would.
    """

    @property
    def pos_embed(self) -> Tensor:
        """(1, tokens, width) float32."""
        columns = self.column_positions[None].expand(self.height, -1, -1)
        rows = self.row_positions[:, None].expand(-1, self.width, -1)
        return torch.cat([columns, rows], dim=-1).flatten(0, 1)[None]


def fix_positions(patches: PatchEmbed, columns: Tensor, rows: Tensor) -> None:
    """Give a patch embedding the position tables of one size, those of `position_tables`, in place."""
    del patches.pos_embed
    patches.__class__ = _SizedPatchEmbed
    patches.height, patches.width = len(rows), len(columns)
    patches.register_buffer("column_positions", columns, persistent=False)
    patches.register_buffer("row_positions", rows, persistent=False)


def position_tables(config: dict, latent_height: int, latent_width: int) -> tuple[Tensor, Tensor]:
    """The two halves of the sin/cos table that diffusers' `PatchEmbed` adds for this latent size.

    Computed on the host: in the graph diffusers 0.35 computes it in float64 for any size but the native one.

    Returns:
        one row for each column of patches, and one for each row of patches: (columns, width / 2) and (rows, width / 2)
        float32 on the CPU, whatever device is the default.
    """
    patch = config["patch_size"]
    half = config["num_attention_heads"] * config["attention_head_dim"] // 2
    columns = _table(config, 1, latent_width // patch)[:, :half]
    rows = _table(config, latent_height // patch, 1)[:, half:]
    return columns.contiguous(), rows.contiguous()


def _table(config: dict, rows: int, columns: int) -> Tensor:
    """diffusers' whole table (rows * columns, width) float32."""
    with torch.device("cpu"):
        table = get_2d_sincos_pos_embed(
            config["num_attention_heads"] * config["attention_head_dim"],
            (rows, columns),
            base_size=config["sample_size"] // config["patch_size"],
            interpolation_scale=position_scale(config["sample_size"], config.get("interpolation_scale")),
            output_type="pt",
        )
    return table.float()

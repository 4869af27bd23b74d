"""The autoencoder's `config.json`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..common.configuration import Configuration, Count, Width

_Block = Annotated[int, Field(ge=1, le=1 << 13)]
_Statistics = Annotated[list[float], Field(max_length=1 << 10)]


class VaeConfiguration(Configuration):
    """The keys of diffusers' `AutoencoderKL` (0.35)."""

    READ = ("block_out_channels", "scaling_factor")

    in_channels: Count
    out_channels: Count = 3
    down_block_types: list[Literal["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]] = ["DownEncoderBlock2D"]
    up_block_types: list[Literal["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]] = ["UpDecoderBlock2D"]
    block_out_channels: list[_Block] = Field(min_length=1, max_length=8)
    layers_per_block: Annotated[int, Field(ge=1, le=64)] = 1
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    latent_channels: Count
    norm_num_groups: Count = 32
    sample_size: Width | None = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: _Statistics | None = None
    latents_std: _Statistics | None = None
    force_upcast: bool | float = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    @model_validator(mode="after")
    def _fits(self) -> "VaeConfiguration":
        blocks = len(self.block_out_channels)
        for key in ("down_block_types", "up_block_types"):
            if len(getattr(self, key)) != blocks:
                raise ValueError(f"{key} has {len(getattr(self, key))} entries, block_out_channels {blocks}")
        if odd := [channels for channels in self.block_out_channels if channels % self.norm_num_groups]:
            raise ValueError(f"norm_num_groups {self.norm_num_groups} does not divide {odd[0]} block_out_channels")
        return self

"""The diffusion transformer's `config.json`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..common.configuration import Configuration, Count, Fraction, Width


def position_scale(sample_size: int, interpolation_scale: float | None) -> float:
    """By how much positions are scaled down; without the key by the size (diffusers 0.35)."""
    return max(sample_size // 64, 1) if interpolation_scale is None else interpolation_scale


CONDITIONED = 128
"""`sample_size` for which diffusers' pipelines pass size and aspect ratio (0.35, `PixArtAlphaPipeline.__call__`)."""


def takes_conditions(config: Mapping[str, Any]) -> bool:
    """Whether a transformer takes size and aspect ratio of the image, which none of PixArt-Sigma does.

    Args:
        config: its `config.json`; without the key those of 1024 px do.
    """
    said = config.get("use_additional_conditions")
    return config["sample_size"] == CONDITIONED if said is None else said


class TransformerConfiguration(Configuration):
    """The keys of diffusers' `PixArtTransformer2DModel` (0.35), which reads a former `Transformer2DModel` too."""

    READ = ("in_channels", "out_channels", "sample_size")

    class_name: Literal["PixArtTransformer2DModel", "Transformer2DModel"] = Field(alias="_class_name")
    num_attention_heads: Count
    attention_head_dim: Count
    in_channels: Count
    out_channels: Count = 8
    num_layers: Count = 28
    dropout: Fraction = 0.0
    norm_num_groups: Count | None = 32
    cross_attention_dim: Width | None = 1152
    attention_bias: bool = True
    sample_size: Annotated[int, Field(ge=1, le=1 << 12)]
    patch_size: Annotated[int, Field(ge=1, le=1 << 6)]
    activation_fn: Literal["gelu", "gelu-approximate", "geglu", "geglu-approximate", "swiglu"] = "gelu-approximate"
    num_embeds_ada_norm: Width | None = 1000
    upcast_attention: bool = False
    norm_type: Literal["ada_norm_single"] = "ada_norm_single"
    norm_elementwise_affine: bool = False
    norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-6
    interpolation_scale: Annotated[float, Field(gt=0, le=1 << 10)] | None = None
    use_additional_conditions: bool | None = None
    caption_channels: Width
    attention_type: Literal["default"] = "default"

    def decisive(self) -> dict[str, Any]:
        """As diffusers fills in."""
        return super().decisive() | {
            "interpolation_scale": position_scale(self.sample_size, self.interpolation_scale),
            "use_additional_conditions": takes_conditions(vars(self)),
        }

    @model_validator(mode="after")
    def _fits(self) -> "TransformerConfiguration":
        if self.sample_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} does not divide sample_size {self.sample_size}")
        return self

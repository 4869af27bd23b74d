"""The sizes of a PixArt-Sigma checkpoint, from its configurations; where they say nothing, the libraries' defaults."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..checkpoint.checkpoint import PixArtCheckpoint

COMPONENTS = ("text_encoder", "transformer", "vae")


@dataclass(frozen=True, kw_only=True)
class TextEncoderSize:
    """T5. `inner` is heads x head width, `gated` whether the feed-forward has two input matrices."""

    layers: int
    width: int
    heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    gated: bool

    @property
    def inner(self) -> int:
        return self.heads * self.head_width


@dataclass(frozen=True, kw_only=True)
class TransformerSize:
    """The diffusion transformer. `patch` is latent cells a side of a token; `attention_bias` that of q, k and v."""

    layers: int
    heads: int
    head_width: int
    in_channels: int
    out_channels: int
    patch: int
    caption_channels: int
    sample_size: int
    attention_bias: bool

    FEED_FORWARD_FACTOR = 4  # diffusers 0.35 `FeedForward`
    TIMESTEP_CHANNELS = 256  # diffusers 0.35 `PixArtAlphaCombinedTimestepSizeEmbeddings`

    @property
    def width(self) -> int:
        return self.heads * self.head_width


@dataclass(frozen=True, kw_only=True)
class VaeSize:
    """The VAE decoder. `channels` of its levels, as in the configuration: from the image inwards."""

    channels: tuple[int, ...]
    resnets: int
    latent_channels: int
    image_channels: int
    mid_attention: bool
    post_quant: bool

    @property
    def scale(self) -> int:
        """Pixels a latent cell."""
        return 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class Geometry:
    """A checkpoint, as far as a plan needs it.

    Attributes:
        name: for the user.
        configs: each component's `config.json`.
    """

    name: str
    configs: dict[str, dict]

    @classmethod
    def of(cls, checkpoint: PixArtCheckpoint) -> Geometry:
        """The geometry of a checkpoint; reads no weight."""
        return cls(checkpoint.source, {component: checkpoint.config(component) for component in COMPONENTS})

    def config(self, component: str) -> dict:
        """A component's configuration."""
        return self.configs[component]

    @cached_property
    def text_encoder(self) -> TextEncoderSize:
        config = self.configs["text_encoder"]
        return TextEncoderSize(
            layers=config.get("num_layers", 6),
            width=config.get("d_model", 512),
            heads=config["num_heads"],
            head_width=config.get("d_kv", 64),
            feed_forward=config["d_ff"],
            vocabulary=config.get("vocab_size", 32128),
            gated=config.get("feed_forward_proj", "relu").startswith("gated"),
        )

    @cached_property
    def transformer(self) -> TransformerSize:
        config = self.configs["transformer"]
        return TransformerSize(
            layers=config.get("num_layers", 28),
            heads=config["num_attention_heads"],
            head_width=config["attention_head_dim"],
            in_channels=config["in_channels"],
            out_channels=config.get("out_channels") or config["in_channels"],
            patch=config["patch_size"],
            caption_channels=config["caption_channels"],
            sample_size=config["sample_size"],
            attention_bias=config.get("attention_bias", True),
        )

    @cached_property
    def vae(self) -> VaeSize:
        config = self.configs["vae"]
        return VaeSize(
            channels=tuple(config["block_out_channels"]),
            resnets=config.get("layers_per_block", 1) + 1,
            latent_channels=config["latent_channels"],
            image_channels=config.get("out_channels", 3),
            mid_attention=config.get("mid_block_add_attention", True),
            post_quant=config.get("use_post_quant_conv", True),
        )

    @property
    def token_pixels(self) -> int:
        """Pixels a side of a token."""
        return self.vae.scale * self.transformer.patch

    @property
    def native_side(self) -> int:
        """Pixels a side of the image that the checkpoint was trained for."""
        return self.transformer.sample_size * self.vae.scale


# The configurations of PixArt-alpha/PixArt-Sigma-XL-2-1024-MS on the Hub; those for 512 and 2048 px differ in
# `sample_size` only.
XL_2 = Geometry(
    "PixArt-Sigma-XL/2",
    {
        "text_encoder": {
            "num_layers": 24,
            "d_model": 4096,
            "num_heads": 64,
            "d_kv": 64,
            "d_ff": 10240,
            "vocab_size": 32128,
            "feed_forward_proj": "gated-gelu",
        },
        "transformer": {
            "num_layers": 28,
            "num_attention_heads": 16,
            "attention_head_dim": 72,
            "in_channels": 4,
            "out_channels": 8,
            "patch_size": 2,
            "caption_channels": 4096,
            "sample_size": 128,
            "attention_bias": True,
        },
        "vae": {
            "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2,
            "latent_channels": 4,
            "in_channels": 3,
            "out_channels": 3,
        },
    },
)

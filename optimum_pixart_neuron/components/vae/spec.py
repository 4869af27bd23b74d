"""The variational autoencoder: one part of a checkpoint, two programs."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import InvalidExportOption
from ...neuron.compiler import FAST_LOADING, UNET_MODEL, ComponentFlags
from ...parallel.modes import PICTURE_MODES, DataParallel, OneCore, ParallelMode, RowParallel
from ..component import Component, Input, Part, Per
from .configuration import VaeConfiguration

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ...deployment.deployment import Deployment
    from ...deployment.options import DeploymentOptions
    from ..common.attention_kernel import KernelAttention
    from ..common.original import Original

NAME = "vae"


VAE = Part(
    name=NAME,
    library="diffusers",
    class_name="AutoencoderKL",
    weights="diffusion_pytorch_model",
    settings=VaeConfiguration,
    released={
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "in_channels": 3,
        "out_channels": 3,
    },
)


class _Half(Component):
    """What decoder and encoder have in common.

    Class attributes:
        graph: name of its module in `graph.py`.
        unmodified: name of its original in `original.py`.
    """

    part = VAE
    task = "semantic-segmentation"
    flags = ComponentFlags(model_type=UNET_MODEL, extra=(FAST_LOADING,))
    graph: ClassVar[str]
    unmodified: ClassVar[str]

    def mode(self, chosen: ParallelMode, options: DeploymentOptions) -> ParallelMode:
        """How the ranks of a pipeline share the work on pictures.

        Bands of rows let all of them work on one picture, which is what `auto` stands for here; where a run has
        several, `planner.decoding` compares bands with whole pictures.

        Raises:
            InvalidExportOption: bands are asked for where a rank works alone, or together with tiles.
        """
        asked, tiles = options.vae_parallel, options.vae_tile_size
        alone = chosen.ranks == 1 or not chosen.shares_batch
        if asked == RowParallel.name and (alone or tiles):
            reason = (
                "--vae_tile_size decodes tile by tile" if tiles else "every core works on pictures of its own here"
            )
            raise InvalidExportOption(f"--vae_parallel {asked}: {reason}; leave one of them out")
        picked = PICTURE_MODES.get(asked) or (DataParallel if alone or tiles else RowParallel)
        if chosen.ranks == 1:
            return chosen
        ranks = 1 if picked is OneCore else chosen.ranks
        return picked(ranks=ranks, guidance_groups=chosen.guidance_groups)

    def build(
        self, config: dict, shapes: Mapping[str, int], dtype: torch.dtype, kernel: KernelAttention | None = None
    ) -> nn.Module:
        from . import graph

        return getattr(graph, self.graph)(config, dtype)

    def original(self) -> Original:
        from . import original

        return getattr(original, self.unmodified)


class _VaeDecoder(_Half):
    """Latents to images: bands of their rows on all cores, or whole or in tiles on one core each."""

    name = "vae_decoder"
    label = "VAE"
    colour = "#E69F00"
    model_type = "vae-decoder"
    graph, unmodified = "PixArtVaeDecoder", "DECODER"
    host_config = "VaeDecoderNeuronConfig"
    per = Per.IMAGE
    inputs = (Input(name="latent_sample", axes=("batch_size", "num_channels", "height", "width"), dtype="float32"),)
    outputs = ("sample",)

    @staticmethod
    def pixels_per_cell(config: dict) -> int:
        """Pixels a side of a latent cell, by the part's `config.json`."""
        return 2 ** (len(config["block_out_channels"]) - 1)

    def shapes(self, config: dict, deployment: Deployment) -> dict[str, int]:
        """All images of a run in bands; else one image or tile at a time, because others run on other cores."""
        tall, wide = deployment.vae_tile
        scale = deployment.vae_scale_factor
        return {
            "batch_size": deployment.images if deployment.mode_of(self).shares_batch else 1,
            "num_channels": config["latent_channels"],
            "height": tall // scale,
            "width": wide // scale,
        }

    def size(self, deployment: Deployment) -> tuple[int, int]:
        return deployment.vae_tile

    def pieces(self, config: dict, deployment: Deployment) -> int:
        """Tiles of an image."""
        from .tiling import tile_starts

        sides = zip((deployment.height, deployment.width), deployment.vae_tile)
        scale = deployment.vae_scale_factor
        return prod(len(tile_starts(side // scale, tile // scale)) for side, tile in sides)

    def has_dynamic_batch(self, deployment: Deployment) -> bool:
        return deployment.images > 1 and not deployment.mode_of(self).shares_batch


class _VaeEncoder(_Half):
    """Images to latents; text-to-image does not use it."""

    name = "vae_encoder"
    label = "VAE encoder"
    colour = "#F0E442"
    model_type = "vae-encoder"
    graph, unmodified = "PixArtVaeEncoder", "ENCODER"
    host_config = "VaeEncoderNeuronConfig"
    per = Per.NEVER
    required = False
    inputs = (Input(name="sample", axes=("batch_size", "num_channels", "height", "width"), dtype="float32"),)
    outputs = ("latent_parameters",)

    def is_exported(self, options: Any) -> bool:
        return options.with_vae_encoder

    def shapes(self, config: dict, deployment: Deployment) -> dict[str, int]:
        return {
            "batch_size": deployment.images,
            "num_channels": config["in_channels"],
            "height": deployment.height,
            "width": deployment.width,
        }


VAE_DECODER = _VaeDecoder()
VAE_ENCODER = _VaeEncoder()

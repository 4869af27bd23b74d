"""The diffusion transformer, which predicts the noise of every step; the mode of a pipeline is the mode of this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ...errors import CheckpointError
from ...neuron.compiler import FAST_LOADING, NO_FUSE_DOT_LOGISTIC, OVERLAP, TRANSFORMER_MODEL, ComponentFlags
from ...parallel.modes import ParallelMode, Workload
from ..component import Component, Input, Part, Per, Seam
from ..text_encoder.spec import NAME as TEXT_ENCODER
from ..vae.spec import VAE
from .configuration import CONDITIONED, TransformerConfiguration, takes_conditions
from .original_names import ORIGINAL_FILE
from .sharding import PLAN

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ...checkpoint.checkpoint import PixArtCheckpoint
    from ...deployment.deployment import Deployment
    from ...deployment.options import DeploymentOptions
    from ..common.attention_kernel import KernelAttention
    from ..common.original import Original

NAME = "transformer"

LATENTS, EMBEDDINGS, MASK = "hidden_states", "encoder_hidden_states", "encoder_attention_mask"
"""Inputs that a call of the pipeline may bring along."""
TIMESTEP = "timestep"

GUIDANCE_SCALE = 4.5
"""diffusers' default of PixArt-Sigma (0.35, `PixArtSigmaPipeline.__call__`)."""
STEPS = 20
"""Likewise."""
UNGUIDED_SCALE = 1.0
"""At most this turns guidance off."""


def scale_of_call(distilled: float | None, *, guided: bool) -> float:
    """The guidance scale where nobody names one.

    Args:
        distilled: what the checkpoint was distilled for; None for diffusers' default.
        guided: whether guidance is compiled at all.
    """
    scale = GUIDANCE_SCALE if distilled is None else distilled
    return scale if guided else min(scale, UNGUIDED_SCALE)


def is_pixart_transformer(config: dict) -> bool:
    """Whether a `config.json` is a PixArt transformer's.

    The released repositories still say `Transformer2DModel`, which diffusers (0.35, `model_loading_utils.py`,
    `_CLASS_REMAPPING_DICT`) loads as `PixArtTransformer2DModel` for this type of norm.
    """
    name = config.get("_class_name")
    return name == "PixArtTransformer2DModel" or (
        name == "Transformer2DModel" and config.get("norm_type") == "ada_norm_single"
    )


def _check_conditions(checkpoint: PixArtCheckpoint) -> None:
    config = checkpoint.config(NAME)
    size = config["sample_size"]
    if not takes_conditions(config):
        return
    place = checkpoint.sources[NAME].folder / "config.json"
    if size != CONDITIONED:
        raise CheckpointError(
            f"{place} asks for use_additional_conditions at sample_size {size}; diffusers passes them at {CONDITIONED}"
        )
    if checkpoint.named is not None and not checkpoint.named.has_conditions:
        raise CheckpointError(
            f"{place} asks for use_additional_conditions, image size and aspect ratio, as PixArt-Alpha has them; in"
            f" {checkpoint.named.label}'s it is false"
        )


def _scaling_note(checkpoint: PixArtCheckpoint) -> Iterable[str]:
    """A VAE that was not made for the transformer decodes to wrong colours without any error."""
    source = checkpoint.sources[VAE.name]
    if source.model == checkpoint.sources[NAME].model:
        return
    scaling, kind = checkpoint.config(VAE.name).get("scaling_factor"), checkpoint.kind
    if scaling != kind.scaling_factor:
        yield (
            f"the {VAE.name} of {source.model} has scaling_factor {scaling}, {kind.label} was trained with"
            f" {kind.scaling_factor}: is it the {NAME}'s?"
        )


class _Transformer(Component):
    """With several ranks that share a batch the guidance pair is inside the program."""

    name = NAME
    label = "DiT"
    colour = "#0072B2"
    part = Part(
        name=NAME,
        library="diffusers",
        class_name="PixArtTransformer2DModel",
        weights="diffusion_pytorch_model",
        settings=TransformerConfiguration,
        seams=(
            Seam(key="caption_channels", giver=TEXT_ENCODER, giver_key="d_model"),
            Seam(key="in_channels", giver=VAE.name, giver_key="latent_channels"),
        ),
        recognize=is_pixart_transformer,
        flag_help="Id or folder of a transformer in place of the model's: a pipeline, itself, or a file of it.",
        released={
            "num_layers": 28,
            "num_attention_heads": 16,
            "attention_head_dim": 72,
            "cross_attention_dim": 1152,
            "in_channels": 4,
            "out_channels": 8,
            "patch_size": 2,
            "caption_channels": 4096,
            "sample_size": 128,
            "use_additional_conditions": False,
        },
        check=_check_conditions,
        notes=_scaling_note,
        single_file=ORIGINAL_FILE,
    )
    model_type, task = "pixart-transformer-2d", "semantic-segmentation"
    host_config = "PixartTransformerNeuronConfig"
    per = Per.STEP
    inputs = (
        Input(name=LATENTS, axes=("batch_size", "num_channels", "height", "width"), dtype="float32"),
        Input(name=EMBEDDINGS, axes=("batch_size", "sequence_length", "encoder_hidden_size"), dtype="float32"),
        Input(name=TIMESTEP, axes=("batch_size",), dtype="float32"),
        Input(name=MASK, axes=("batch_size", "sequence_length"), dtype="int64"),
    )
    outputs = ("out_hidden_states",)
    flags = ComponentFlags(
        model_type=TRANSFORMER_MODEL,
        sharded=(OVERLAP,),
        extra=(FAST_LOADING,),
        by_target=(("trn2", NO_FUSE_DOT_LOGISTIC),),
    )
    stepped = (LATENTS, TIMESTEP)
    """The inputs that change from step to step."""
    plan = PLAN
    repeated = ("pos_embed.pos_embed",)  # which the size decides
    takes_guidance = True
    blocks = "num_layers"
    has_kernel = True
    loads_lazily = True  # DataParallel replicates it; loading it alone first would be work twice

    def shapes(self, config: dict, deployment: Deployment) -> dict[str, int]:
        height, width = deployment.latent_size
        return {
            "batch_size": deployment.images,
            "sequence_length": deployment.sequence_length,
            "height": height,
            "width": width,
            "num_channels": config["in_channels"],
            "vae_scale_factor": deployment.vae_scale_factor,
            "encoder_hidden_size": config["caption_channels"],
        }

    def build(
        self, config: dict, shapes: Mapping[str, int], dtype: torch.dtype, kernel: KernelAttention | None = None
    ) -> nn.Module:
        from .graph import PixArtTransformer

        return PixArtTransformer.build(
            config,
            latent_height=shapes["height"],
            latent_width=shapes["width"],
            pixels_per_cell=shapes["vae_scale_factor"],
            dtype=dtype,
            kernel=kernel,
        )

    def workload(self, config: dict, tokens: int) -> Workload:
        return Workload(
            plan=PLAN,
            config=config,
            tokens=tokens,
            heads=config["num_attention_heads"],
            head_width=config["attention_head_dim"],
        )

    def mode(self, chosen: ParallelMode, options: DeploymentOptions) -> ParallelMode:
        return chosen

    def original(self) -> Original:
        from .original import ORIGINAL

        return ORIGINAL


TRANSFORMER = _Transformer()

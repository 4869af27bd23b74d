"""From settings to the export configs of the components."""

import torch
from optimum.neuron.utils import DiffusersPretrainedConfig, InputShapesArguments

from ..checkpoint.checkpoint import PixArtCheckpoint
from ..components.common.attention_kernel import KernelAttention
from ..components.component import (
    REGISTERED,
    PixArtComponentConfig,
    PixArtTextEncoderNeuronConfig,
    PixArtTransformerNeuronConfig,
    PixArtVaeDecoderNeuronConfig,
    PixArtVaeEncoderNeuronConfig,
)
from ..deployment.deployment import ExportSettings

_TASKS = {config_class: task for (_, task), config_class in REGISTERED.items()}


def describe_components(checkpoint: PixArtCheckpoint, settings: ExportSettings) -> list[PixArtComponentConfig]:
    """The components of one export, in the order they are compiled."""
    transformer, vae = checkpoint.config("transformer"), checkpoint.config("vae")
    height, width = settings.latent_size
    text = {"batch_size": settings.batch_size, "sequence_length": settings.sequence_length}
    latents = {"batch_size": settings.images, "height": height, "width": width}
    shapes = {
        PixArtTextEncoderNeuronConfig: text,
        PixArtTransformerNeuronConfig: {
            **text,
            **latents,
            "num_channels": transformer["in_channels"],
            "vae_scale_factor": settings.vae_scale_factor,
            "encoder_hidden_size": transformer["caption_channels"],
        },
        # One image or tile at a time: more of them run on other cores.
        PixArtVaeDecoderNeuronConfig: {
            "batch_size": 1,
            "num_channels": vae["latent_channels"],
            "height": settings.vae_tile[0] // settings.vae_scale_factor,
            "width": settings.vae_tile[1] // settings.vae_scale_factor,
        },
    }
    if settings.with_vae_encoder:
        shapes[PixArtVaeEncoderNeuronConfig] = {
            "batch_size": settings.images,
            "num_channels": vae["in_channels"],
            "height": settings.height,
            "width": settings.width,
        }
    return [_describe(checkpoint, settings, config_class, shape) for config_class, shape in shapes.items()]


def _describe(
    checkpoint: PixArtCheckpoint, settings: ExportSettings, config_class: type[PixArtComponentConfig], shape: dict
) -> PixArtComponentConfig:
    source = checkpoint.config(config_class.SOURCE)
    component = config_class(
        DiffusersPretrainedConfig.from_dict(dict(source)),  # it adds keys to what it is given
        task=_TASKS[config_class],
        input_shapes=InputShapesArguments(**shape),
        tensor_parallel_size=settings.ranks,
        int_dtype=torch.int64,
        # Every border is float32: the stock loader casts latents and timesteps to this.
        float_dtype=torch.float32,
    )
    component.source_config = source
    component.source_weights = checkpoint.weights(config_class.SOURCE)
    component.weights_dtype = settings.weights_dtype
    component.dynamic_batch = config_class is PixArtVaeDecoderNeuronConfig and settings.images > 1
    component.split = settings.split_of(config_class.COMPONENT)
    if isinstance(component, PixArtTransformerNeuronConfig):
        component.guided = settings.guided
        if settings.attention_kernel:
            component.kernel = KernelAttention(name=settings.attention_kernel, lnc=settings.compiler.lnc)
    return component

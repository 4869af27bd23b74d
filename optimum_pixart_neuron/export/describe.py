"""From a deployment to the export configs of the components."""

import torch
from optimum.neuron.utils import DiffusersPretrainedConfig, InputShapesArguments

from ..checkpoint.checkpoint import PixArtCheckpoint
from ..components.common.attention_kernel import KernelAttention
from ..components.component import Component
from ..components.export_config import ExportConfig, registered_config
from ..components.registration import register
from ..components.registry import COMPONENTS
from ..deployment.deployment import Deployment
from .options import ExportOptions


def describe_components(
    checkpoint: PixArtCheckpoint, deployment: Deployment, options: ExportOptions
) -> list[ExportConfig]:
    """The components of one export, in the order they are compiled; their configs come from the TasksManager.

    Each is that of the component's first program, with those of its other programs in `others`.
    """
    register()
    exported = [
        component
        for component in COMPONENTS.values()
        if component.part.name in checkpoint.sources and component.is_exported(options)
    ]
    return [_describe_all(checkpoint, deployment, component) for component in exported]


def _describe_all(checkpoint: PixArtCheckpoint, deployment: Deployment, component: Component) -> ExportConfig:
    """Deployments that a component runs the same program for have one config."""
    found: list[ExportConfig] = []
    for each in deployment.each:
        config = _describe(checkpoint, each, component)
        same = next((other for other in found if _program(other) == _program(config)), None)
        if same is None:
            found.append(config)
        elif each.size not in same.images:
            same.images += (each.size,)
    first, *others = found
    first.others = tuple(others)
    return first


def _program(config: ExportConfig) -> tuple:
    return config.guided, config.split, config.kernel, tuple(each.shape for each in config.example_inputs())


def _describe(checkpoint: PixArtCheckpoint, deployment: Deployment, component: Component) -> ExportConfig:
    source = checkpoint.config(component.part.name)
    config = registered_config(component)(
        DiffusersPretrainedConfig.from_dict(dict(source)),  # it adds keys to what it is given
        input_shapes=InputShapesArguments(**component.shapes(source, deployment)),
        tensor_parallel_size=deployment.ranks,
        int_dtype=torch.int64,
        # Every border is float32: the stock loader casts latents and timesteps to this.
        float_dtype=torch.float32,
    )
    config.source_config = source
    config.source_weights = checkpoint.weights(component.part.name)
    config.weights_dtype = deployment.weights_dtype
    config.dynamic_batch = component.has_dynamic_batch(deployment)
    mode = deployment.mode_of(component)
    config.split = mode.split(component.plan)
    config.guided = component.takes_guidance and mode.takes_pair
    config.size, config.images = component.size(deployment), (deployment.size,)
    if component.has_kernel and deployment.attention_kernel:
        config.kernel = KernelAttention(
            name=deployment.attention_kernel,
            lnc=deployment.compiler.lnc,
            masked=deployment.masked_kernel is not None,
        )
    return config

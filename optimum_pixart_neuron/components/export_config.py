"""The export config of a component, as optimum's TasksManager has it: the host's config with what our exporter needs.

Each extends optimum-neuron 0.4.5's config of the same model type, so the stock loader finds what it knows. Importing
this module imports the host's exporter, which needs the SDK or the emulator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from optimum.exporters.neuron import model_configs
from optimum.exporters.neuron.base import NeuronDefaultConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedConfig
from torch import Tensor, nn

from ..errors import CheckpointError
from ..parallel.apply import materialize
from ..parallel.shard_writer import ShardedWeight
from ..parallel.split import Split
from .common.attention_kernel import KernelAttention
from .component import ONE_HALF, Component, ComputedWeight

if TYPE_CHECKING:
    from ..checkpoint.weights import ComponentWeights

EXPORTER, LIBRARY = "neuron", "diffusers"
"""Under which the TasksManager has the configs."""


class ExportConfig:
    """What the export needs to know of a component beyond what the host's config says.

    Class attributes:
        COMPONENT: the component.

    Attributes:
        source_config: the checkpoint's `config.json` of the component. Where the host made this config, to load an
            artifact or to export another model, it is missing, and everything is as in the host's class.
        source_weights: its weight files; missing likewise.
        weights_dtype: dtype of weights and matmuls.
        split: how it runs on several ranks; None for a program of one core.
        guided: whether the program takes the guidance pair, twice the batch of images.
        dynamic_batch: whether the program cuts larger batches itself, for the stock class.
        kernel: computes attention; None for the written-out form.
        size: height and width in pixels of what the program makes.
        images: height and width in pixels of the images that it works for.
        others: configs of the component's further programs, which have the weights of this one.
    """

    COMPONENT: ClassVar[Component]

    # Of the host's class, which this one is put in front of.
    MODEL_TYPE: ClassVar[str]
    task: str
    input_shapes: dict[str, int]
    int_dtype: str
    float_dtype: str

    source_config: dict
    source_weights: ComponentWeights
    weights_dtype: torch.dtype = torch.float32
    split: Split | None = None
    guided: bool = False
    dynamic_batch: bool = False
    kernel: KernelAttention | None = None
    size: tuple[int, int] = (0, 0)
    images: tuple[tuple[int, int], ...] = ()
    others: tuple[ExportConfig, ...] = ()

    @property
    def programs(self) -> tuple[ExportConfig, ...]:
        """This one and the others."""
        return (self, *self.others)

    @property
    def program_name(self) -> str:
        """Of the program among those of its component."""
        tall, wide = self.size
        return f"{tall}x{wide}" if self.guided or not self.COMPONENT.takes_guidance else f"{tall}x{wide}{ONE_HALF}"

    @property
    def has_source(self) -> bool:
        """Whether a checkpoint is exported, by this package."""
        return hasattr(self, "source_weights")

    @property
    def ranks(self) -> int:
        """Ranks that run the program together."""
        return self.split.ranks if self.split else 1

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Tensors of ones with the shapes and dtypes of the compiled program, in call order."""
        return self.COMPONENT.example_inputs(self.input_shapes, guided=self.guided)

    def build(self) -> nn.Module:
        """The module of one rank with uninitialised weights; for several ranks, called inside NxD's parallel state."""
        with torch.device("meta"):
            model = self.build_unsharded()
            if self.split:
                self.split.apply(model, self.weights_dtype)
        materialize(model)
        return model

    def build_unsharded(self) -> nn.Module:
        """The module as it computes on one core, weights on the current default device."""
        return self.COMPONENT.build(self.source_config, self.input_shapes, self.weights_dtype, self.kernel)

    @cached_property
    def _parameters(self) -> dict[str, nn.Parameter]:
        """Those of the module on one core, by name: shapes and dtypes alone."""
        with torch.device("meta"):
            return dict(self.build_unsharded().named_parameters())

    @cached_property
    def _computed(self) -> dict[str, ComputedWeight]:
        stored = self.source_weights.files.keys()
        return self.COMPONENT.computed_weights(self.source_config, self.input_shapes, stored)

    def weights(self) -> dict[str, ShardedWeight]:
        """Every weight of the program, checked against the checkpoint's headers.

        Raises:
            CheckpointError: the checkpoint lacks a weight or has it in another shape; names the first one.
        """
        names = list(self._parameters)
        dims = self.split.divided_dims(names) if self.split else dict.fromkeys(names)
        result = {}
        for name, parameter in self._parameters.items():
            shape = tuple(parameter.shape)
            computed = self._computed.get(name)
            for source, source_shape in (computed.sources if computed else {name: shape}).items():
                self._check_source(source, source_shape)
            result[name] = ShardedWeight(shape=shape, dtype=parameter.dtype, dim=dims[name])
        for name, tensor in self._added_weights().items():
            result[name] = ShardedWeight(shape=tuple(tensor.shape), dtype=tensor.dtype, dim=0)
        return result

    def used_names(self) -> set[str]:
        """Names in the checkpoint of every weight that the program is made from, and of their repetitions."""
        sources = {source for computed in self._computed.values() for source in computed.sources}
        return self._parameters.keys() | sources | set(self.COMPONENT.repeated)

    def _added_weights(self) -> dict[str, Tensor]:
        return self.split.added_weights() if self.split else {}

    def _check_source(self, name: str, shape: tuple[int, ...]) -> None:
        folder = self.COMPONENT.part.name
        if name not in self.source_weights.files:
            raise CheckpointError(f"{folder}: the checkpoint has no weight {name}")
        found = self.source_weights.shape(name)
        if found != shape:
            raise CheckpointError(f"{folder}: weight {name} has shape {found}, config.json asks for {shape}")

    def read_weight(self, name: str) -> Tensor:
        """One whole weight by state-dict name, in the checkpoint's dtype."""
        added = self._added_weights()
        if name in added:
            return added[name]
        if name in self._computed:
            computed = self._computed[name]
            return computed.compute(*map(self.source_weights.read, computed.sources))
        return self.source_weights.read(name)

    def load_checkpoint(self) -> dict[str, Tensor]:
        """All weights, memory-mapped, as NxD's `ModelBuilder.shard_checkpoint` asks for them."""
        return {name: self.read_weight(name) for name in self.weights()}

    def build_filled(self, *, with_checkpoint: bool) -> nn.Module:
        """The module on one core, with the checkpoint's weights or with zeros."""
        model = self.build()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if with_checkpoint:
                    parameter.copy_(self.read_weight(name))
                else:
                    parameter.zero_()
        return model


class _NxdConfig(ExportConfig, model_configs.NxDExportNeuronConfig):
    """With what optimum-neuron's own exporter asks of an NxD component (0.4.5 `NxDExportNeuronConfig`)."""

    def get_parallel_callable(self) -> nn.Module:
        return self.build() if self.has_source else super().get_parallel_callable()

    def checkpoint_loader_fn(self, mmap: bool = False) -> dict[str, Tensor]:
        return self.load_checkpoint() if self.has_source else super().checkpoint_loader_fn(mmap)


class _OwnConfig(NeuronDefaultConfig):
    """The base for a component that optimum-neuron has no config for."""

    LIBRARY_NAME = LIBRARY
    NORMALIZED_CONFIG_CLASS = NormalizedConfig

    @property
    def inputs(self) -> list[str]:
        return [given.name for given in self.COMPONENT.inputs]

    @property
    def outputs(self) -> list[str]:
        return list(self.COMPONENT.outputs)


@cache
def config_class(component: Component) -> type[ExportConfig]:
    """The export config of a component, as `register` puts it into the TasksManager."""
    base: type = _OwnConfig if component.host_config is None else getattr(model_configs, component.host_config)
    own = _NxdConfig if issubclass(base, model_configs.NxDExportNeuronConfig) else ExportConfig
    members: dict[str, Any] = {"COMPONENT": component}
    if base is _OwnConfig:
        axes = (axis for given in component.inputs for axis in given.axes if isinstance(axis, str))
        members |= {"MODEL_TYPE": component.model_type, "INPUT_ARGS": tuple(dict.fromkeys(axes))}
    return type(f"{type(component).__name__}NeuronConfig", (own, base), members)


def registered_config(component: Component) -> Callable[..., ExportConfig]:
    """What makes the export config of a component: whatever the TasksManager has under its model type and task."""
    return TasksManager.get_exporter_config_constructor(
        EXPORTER, model_type=component.model_type, task=component.task, library_name=LIBRARY
    )

"""One declarative export config a component, registered with optimum in place of the host's.

Each extends optimum-neuron 0.4.5's config of the same model type, so the stock loader finds what it knows. Importing
this module imports the host's exporter, which needs the SDK or the emulator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from optimum.exporters.neuron.model_configs import (
    PixartTransformerNeuronConfig,
    T5EncoderForDiffusersNeuronConfig,
    VaeDecoderNeuronConfig,
    VaeEncoderNeuronConfig,
)
from torch import Tensor, nn
from transformers import T5Config

from ..checkpoint.checkpoint import ComponentWeights
from ..errors import CheckpointError
from ..parallel.apply import materialize
from ..parallel.shard_writer import ShardedWeight
from ..parallel.split import Split
from .common.attention_kernel import KernelAttention
from .text_encoder.graph import PixArtTextEncoder, relative_position_bias
from .transformer.graph import PixArtTransformer, position_table
from .vae.graph import PixArtVaeDecoder, PixArtVaeEncoder


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a compiled program.

    Attributes:
        name: as the module's `forward` calls it.
        axes: names of the config's axes, or numbers.
        dtype: what the stock loader passes.
    """

    name: str
    axes: tuple[str | int, ...]
    dtype: torch.dtype


class PixArtComponentConfig:
    """What the export needs to know of a component beyond what the host's config says.

    Class attributes:
        COMPONENT: folder in the export; also the key of its compiler flags.
        SOURCE: folder in the checkpoint.
        PROGRAM_INPUTS: in call order.
        NEEDS_MODEL_BUILDER: whether it is an NxD program even on one core.

    Attributes:
        source_config: the checkpoint's `config.json` of the component; None where the host made this config, to load
            an artifact or to export another model, and everything is as in the host's class.
        source_weights: its weight files.
        weights_dtype: dtype of weights and matmuls.
        split: how it runs on several ranks; None for a program of one core.
        guided: whether the program takes the guidance pair, twice the batch of images.
        dynamic_batch: whether the program cuts larger batches itself, for the stock class.
    """

    COMPONENT: ClassVar[str]
    SOURCE: ClassVar[str]
    PROGRAM_INPUTS: ClassVar[tuple[Input, ...]]
    NEEDS_MODEL_BUILDER: ClassVar[bool] = False

    source_config: dict | None = None
    source_weights: ComponentWeights | None = None
    weights_dtype: torch.dtype = torch.float32
    split: Split | None = None
    guided: bool = False
    dynamic_batch: bool = False

    @property
    def ranks(self) -> int:
        """Ranks that run the program together."""
        return self.split.ranks if self.split else 1

    @property
    def program_batch_size(self) -> int:
        return self.batch_size * (2 if self.guided else 1)

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Tensors of ones with the shapes and dtypes of the compiled program, in call order."""

        def size(axis: str | int) -> int:
            if axis == "batch_size":
                return self.program_batch_size
            return axis if isinstance(axis, int) else getattr(self, axis)

        return tuple(torch.ones([size(axis) for axis in spec.axes], dtype=spec.dtype) for spec in self.PROGRAM_INPUTS)

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
        raise NotImplementedError

    def computed_weights(self) -> dict[str, Callable[[], Tensor]]:
        """Weights that the checkpoint does not hold under their name, by state-dict name."""
        return {}

    def weights(self) -> dict[str, ShardedWeight]:
        """Every weight of the program, checked against the checkpoint's headers.

        Raises:
            CheckpointError: the checkpoint lacks a weight or has it in another shape; names the first one.
        """
        with torch.device("meta"):
            model = self.build_unsharded()
        parameters = dict(model.named_parameters())
        dims = self.split.divided_dims(list(parameters)) if self.split else dict.fromkeys(parameters)
        computed = self.computed_weights()
        result = {}
        for name, parameter in parameters.items():
            shape = tuple(parameter.shape)
            if name not in computed:
                self._check_source(name, shape)
            result[name] = ShardedWeight(shape=shape, dtype=parameter.dtype, dim=dims[name])
        for name, tensor in self._added_weights().items():
            result[name] = ShardedWeight(shape=tuple(tensor.shape), dtype=tensor.dtype, dim=0)
        return result

    def _added_weights(self) -> dict[str, Tensor]:
        return self.split.added_weights() if self.split else {}

    def _check_source(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self.source_weights.files:
            raise CheckpointError(f"{self.SOURCE}: the checkpoint has no weight {name}")
        found = self.source_weights.shape(name)
        if found != shape:
            raise CheckpointError(f"{self.SOURCE}: weight {name} has shape {found}, config.json asks for {shape}")

    def read_weight(self, name: str) -> Tensor:
        """One whole weight by state-dict name, in the checkpoint's dtype."""
        added, computed = self._added_weights(), self.computed_weights()
        if name in added:
            return added[name]
        return computed[name]() if name in computed else self.source_weights.read(name)

    def load_checkpoint(self) -> dict[str, Tensor]:
        """All weights, memory-mapped, as NxD's `ModelBuilder.shard_checkpoint` asks for them."""
        return {name: self.read_weight(name) for name in self.weights()}

    def build_loaded(self) -> nn.Module:
        """The module on one core with the checkpoint's weights."""
        model = self.build()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self.read_weight(name))
        return model


class PixArtTextEncoderNeuronConfig(PixArtComponentConfig, T5EncoderForDiffusersNeuronConfig):
    """T5, sharded by heads and feed-forward width. Always an NxD program: its weights stay out of the archive."""

    COMPONENT = SOURCE = "text_encoder"
    PROGRAM_INPUTS = (Input(name="input_ids", axes=("batch_size", "sequence_length"), dtype=torch.int64),)
    NEEDS_MODEL_BUILDER = True

    _BUCKETS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    _TIED = "encoder.embed_tokens.weight"

    def get_parallel_callable(self) -> nn.Module:
        return self.build() if self.source_weights else super().get_parallel_callable()

    def checkpoint_loader_fn(self, mmap: bool = False) -> dict[str, Tensor]:
        return self.load_checkpoint() if self.source_weights else super().checkpoint_loader_fn(mmap)

    def build_unsharded(self) -> nn.Module:
        return PixArtTextEncoder(T5Config.from_dict(self.source_config), self.sequence_length, self.weights_dtype)

    def computed_weights(self) -> dict[str, Callable[[], Tensor]]:
        self._check_source(self._BUCKETS, self._bucket_shape())
        computed = {"position_bias.value": self._position_bias}
        if "shared.weight" not in self.source_weights.files:  # saved under the other name of the tied pair
            computed["shared.weight"] = lambda: self.source_weights.read(self._TIED)
        return computed

    def _bucket_shape(self) -> tuple[int, int]:
        config = T5Config.from_dict(self.source_config)
        return (config.relative_attention_num_buckets, config.num_heads)

    def _position_bias(self) -> Tensor:
        buckets = self.source_weights.read(self._BUCKETS)
        return relative_position_bias(buckets, T5Config.from_dict(self.source_config), self.sequence_length)


class PixArtTransformerNeuronConfig(PixArtComponentConfig, PixartTransformerNeuronConfig):
    """The diffusion transformer; with several ranks the guidance pair is inside the program.

    Attributes:
        kernel: computes self-attention; None for the written-out form.
    """

    COMPONENT = SOURCE = "transformer"
    PROGRAM_INPUTS = (
        Input(name="hidden_states", axes=("batch_size", "num_channels", "height", "width"), dtype=torch.float32),
        Input(
            name="encoder_hidden_states",
            axes=("batch_size", "sequence_length", "encoder_hidden_size"),
            dtype=torch.float32,
        ),
        Input(name="timestep", axes=("batch_size",), dtype=torch.float32),
        Input(name="encoder_attention_mask", axes=("batch_size", "sequence_length"), dtype=torch.int64),
    )

    kernel: KernelAttention | None = None

    def build_unsharded(self) -> nn.Module:
        return PixArtTransformer.build(
            self.source_config,
            latent_height=self.height,
            latent_width=self.width,
            dtype=self.weights_dtype,
            kernel=self.kernel,
        )

    def computed_weights(self) -> dict[str, Callable[[], Tensor]]:
        return {"pos_embed.pos_embed": lambda: position_table(self.source_config, self.height, self.width)}


class _VaeConfig(PixArtComponentConfig):
    SOURCE = "vae"


class PixArtVaeDecoderNeuronConfig(_VaeConfig, VaeDecoderNeuronConfig):
    """Latents to images, on one core."""

    COMPONENT = "vae_decoder"
    PROGRAM_INPUTS = (
        Input(name="latent_sample", axes=("batch_size", "num_channels", "height", "width"), dtype=torch.float32),
    )

    def build_unsharded(self) -> nn.Module:
        return PixArtVaeDecoder(self.source_config, self.weights_dtype)


class PixArtVaeEncoderNeuronConfig(_VaeConfig, VaeEncoderNeuronConfig):
    """Images to latents, on one core; text-to-image does not use it."""

    COMPONENT = "vae_encoder"
    PROGRAM_INPUTS = (
        Input(name="sample", axes=("batch_size", "num_channels", "height", "width"), dtype=torch.float32),
    )

    def build_unsharded(self) -> nn.Module:
        return PixArtVaeEncoder(self.source_config, self.weights_dtype)


# (model type, task) under which optimum-neuron 0.4.5 looks the configs up.
REGISTERED = {
    ("t5-encoder", "feature-extraction"): PixArtTextEncoderNeuronConfig,
    ("pixart-transformer-2d", "semantic-segmentation"): PixArtTransformerNeuronConfig,
    ("vae-decoder", "semantic-segmentation"): PixArtVaeDecoderNeuronConfig,
    ("vae-encoder", "semantic-segmentation"): PixArtVaeEncoderNeuronConfig,
}

"""The originals: each component as diffusers or transformers has it, unmodified, with streamed weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel
from transformers.integrations.accelerate import init_empty_weights

from ..checkpoint.checkpoint import PixArtCheckpoint
from ..components.common.streaming import stream_weights
from ..errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Original:
    """One component before compilation.

    Attributes:
        source: its folder in a checkpoint.
        build: makes the module from its `config.json`.
        call: runs the module on the inputs of `inputs.py`, by name.
        rows: of the inputs that one call takes; each call reads all weights once.
    """

    source: str
    build: Callable[[dict], nn.Module]
    call: Callable[..., Tensor]
    rows: int = 1

    def run(
        self, checkpoint: PixArtCheckpoint, inputs: dict[str, Tensor], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The original's output (rows, ...) float32, computed in `dtype` as diffusers does it.

        Raises:
            CheckpointError: a weight is missing or has another shape.
        """
        with init_empty_weights():
            model = self.build(checkpoint.config(self.source)).to(dtype)
        try:
            model = stream_weights(model, checkpoint.weights(self.source).files)
            chunks = zip(*(_cast(name, tensor, dtype).split(self.rows) for name, tensor in inputs.items()))
            with torch.no_grad():
                return torch.cat([self.call(model, **dict(zip(inputs, chunk))).float() for chunk in chunks])
        except CheckpointError as error:
            raise CheckpointError(f"{self.source}: {error}") from None


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Timesteps stay what they are: diffusers' schedulers give integers to a model of any dtype."""
    return tensor.to(dtype) if tensor.is_floating_point() and name != "timestep" else tensor


def _encode_text(model: T5EncoderModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    return model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _predict_noise(
    model: PixArtTransformer2DModel,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    timestep: Tensor,
    encoder_attention_mask: Tensor,
) -> Tensor:
    return model(
        hidden_states,
        encoder_hidden_states=encoder_hidden_states,
        timestep=timestep,
        encoder_attention_mask=encoder_attention_mask,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample


ORIGINALS = {
    "text_encoder": Original(
        source="text_encoder",
        build=lambda config: T5EncoderModel(T5Config.from_dict(config)),
        call=_encode_text,
        rows=8,  # 19 GB are read for each call on T5-XXL; the activations of a row are small
    ),
    "transformer": Original(
        source="transformer",
        build=PixArtTransformer2DModel.from_config,
        call=_predict_noise,
    ),
    "vae_decoder": Original(
        source="vae",
        build=AutoencoderKL.from_config,
        call=lambda model, latent_sample: model.decode(latent_sample).sample,
    ),
    "vae_encoder": Original(
        source="vae",
        build=AutoencoderKL.from_config,
        call=lambda model, sample: model.encode(sample).latent_dist.parameters,
    ),
}
"""By folder of the export, in the order of validation."""

"""Options of optimum-neuron's exporter (0.4.5) that only other models have; each is refused with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

_NO_IP_ADAPTER = "it takes no IP-Adapter"
_ONE_BATCH = "text-to-image has a single batch; use --batch_size"
_IMAGES_ONLY = "the compiled pipeline returns images only"


@dataclass(frozen=True, kw_only=True)
class _ForeignOption:
    """An option of the host that PixArt-Sigma has not.

    Attributes:
        flag: As the host's command line spells it.
        reason: Why it has no meaning, or what to use instead.
        nargs: How many values it takes: 0 for a switch, "*" for a list.
    """

    flag: str
    reason: str
    nargs: int | str = 1

    @property
    def name(self) -> str:
        """The keyword of the host's Python API."""
        return self.flag.removeprefix("--").replace("-", "_")


OF_OTHER_MODELS = MappingProxyType(
    {
        option.name: option
        for option in (
            _ForeignOption(
                flag="--unet", reason="it has a transformer instead of a UNet; replace that inside the checkpoint"
            ),
            _ForeignOption(flag="--controlnet_ids", reason="it takes no ControlNet", nargs="*"),
            _ForeignOption(flag="--ip_adapter_id", reason=_NO_IP_ADAPTER, nargs="*"),
            _ForeignOption(flag="--ip_adapter_subfolder", reason=_NO_IP_ADAPTER, nargs="*"),
            _ForeignOption(flag="--ip_adapter_weight_name", reason=_NO_IP_ADAPTER, nargs="*"),
            _ForeignOption(flag="--ip_adapter_scale", reason=_NO_IP_ADAPTER, nargs="*"),
            _ForeignOption(
                flag="--dynamic-batch-size",
                reason="a sharded program has one batch size; requests of any size run in chunks of --batch_size",
                nargs=0,
            ),
            _ForeignOption(flag="--output_attentions", reason=_IMAGES_ONLY, nargs=0),
            _ForeignOption(flag="--output_hidden_states", reason=_IMAGES_ONLY, nargs=0),
            _ForeignOption(flag="--text_batch_size", reason=_ONE_BATCH),
            _ForeignOption(flag="--image_batch_size", reason=_ONE_BATCH),
            _ForeignOption(flag="--num_beams", reason="nothing is searched with beams"),
            _ForeignOption(flag="--num_choices", reason="it belongs to multiple-choice models"),
            _ForeignOption(flag="--num_channels", reason="the checkpoint fixes the number of channels"),
            _ForeignOption(flag="--image_size", reason="use --height and --width"),
            _ForeignOption(flag="--patch_size", reason="the checkpoint fixes the patch size"),
            _ForeignOption(flag="--audio_sequence_length", reason="it belongs to audio models"),
        )
    }
)
"""By keyword."""

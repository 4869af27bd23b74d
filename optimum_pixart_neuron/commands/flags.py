"""The flags of `optimum-cli export neuron` for PixArt-Sigma, as data.

The host's own parser cannot be reused: its module imports torch and transformers only to list the tasks in a help
text. `tests/cli/test_arguments.py` compares this table with that parser, name by name, so neither can drift.
"""

from __future__ import annotations

from argparse import SUPPRESS
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint.layout import COMPONENTS_MODEL
from ..parallel.modes import MODES


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One option of the command: its names and what argparse is told about it.

    Attributes:
        names: Option strings, spelled exactly as the host spells them, or one positional name.
        help: What the flag does for a PixArt-Sigma export.
        kwargs: Further arguments of `ArgumentParser.add_argument`.
        refused: None for a flag that works; else why it has no meaning for PixArt-Sigma and what to use instead.
    """

    names: tuple[str, ...]
    help: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None

    @property
    def dest(self) -> str:
        """Name of the attribute that argparse fills."""
        return self.kwargs.get("dest") or self.names[-1].lstrip("-").replace("-", "_")


def _flag(*names: str, help: str, **kwargs) -> Flag:
    return Flag(names=names, help=help, kwargs=kwargs)


def _switch(*names: str, help: str, **kwargs) -> Flag:
    return Flag(names=names, help=help, kwargs={"action": "store_true", **kwargs})


def _refused(*names: str, reason: str, **kwargs) -> Flag:
    return Flag(names=names, help=f"Not for PixArt-Sigma: {reason}.", kwargs=kwargs, refused=reason)


REQUIRED = (
    _flag(
        "-m", "--model", required=True, help="Id on the Hugging Face Hub, or folder, of the PixArt-Sigma checkpoint."
    ),
    _flag("output", type=Path, help="Folder to write the compiled pipeline to; must not exist or be empty."),
)

SOURCE = (
    _flag("--task", default="auto", help="Only text-to-image, which auto (the default) stands for."),
    _flag("--subfolder", default="", help="Folder inside the repository or folder that holds model_index.json."),
    _flag("--revision", help="Branch, tag or commit of the model's repository on the Hub."),
    _flag(
        "--components_model",
        help=(
            "Id or folder of what the model lacks; default, for a transformer alone: "
            f"{COMPONENTS_MODEL}. Ids of this and the next two may be id[@revision][/path]."
        ),
    ),
    _flag("--transformer", help="Id or folder of a transformer in place of the model's: a pipeline or itself."),
    _flag("--text_encoder", help="Id or folder of a T5 text encoder in place of the model's: a pipeline or itself."),
    _flag("--variant", help="Variant of the weight files, for example fp16."),
    _flag("--token", help="Access token for the Hub; without it the one stored by `hf auth login` is used."),
    _flag("--cache_dir", help="Folder of the download cache."),
    _switch("--local_files_only", help="Use what is in the download cache and never the network."),
    _switch("--trust-remote-code", help="Allow code from the repository to run; PixArt-Sigma needs none."),
)

HARDWARE = (
    _flag(
        "--tensor_parallel_size", type=int, help="Cores to spread the model over; default: 4 on trn2, else 8 or all."
    ),
    # Older name of the same flag; the host still takes it without showing it.
    _flag("--num_cores", type=int, help=SUPPRESS, dest="tensor_parallel_size"),
    _flag(
        "--parallel_mode",
        choices=tuple(MODES),
        help=(
            "How the transformer uses the cores: context (default) splits the guidance pair and the image tokens, "
            "tensor splits the weights, data gives each core a copy and images of its own."
        ),
    ),
    _flag(
        "--exchange",
        choices=("gather", "all-to-all"),
        help="How cores see each other's tokens in context mode; default: whichever sends fewer bytes.",
    ),
    _switch("--no_guidance", help="Compile the transformer without the guidance pair, for few-step checkpoints."),
)

COMPILER = (
    _flag(
        "--torch_dtype",
        default="bfloat16",
        choices=("bfloat16", "float16", "float32"),
        help="Type of the weights and matrix products (default: %(default)s).",
    ),
    _flag(
        "--auto_cast", choices=("none", "matmul", "all"), help="What the compiler may cast below FP32; default: none."
    ),
    _flag(
        "--auto_cast_type",
        default="bf16",
        choices=("bf16", "fp16", "tf32"),
        help="Type that --auto_cast casts to (default: %(default)s).",
    ),
    _flag(
        "--attention",
        default="auto",
        choices=("auto", "nki", "math"),
        help=(
            "Self-attention of the transformer: nki is the SDK's kernel, math is written out, auto (default) is the "
            "kernel where it takes the size."
        ),
    ),
    _flag("--compiler_workdir", type=Path, help="Folder to keep the compiler's intermediate files in."),
    _switch("--inline-weights-neff", help="Put weights into the program; they can then no longer be replaced."),
    _switch("--disable-validation", help="Skip the comparison with the original model after the export."),
    _switch("--disable_validation", help=SUPPRESS),  # as most other flags are spelled
    _flag(
        "--atol", type=float, help="Largest absolute difference allowed there; default: by the rounding of bfloat16."
    ),
    _switch("--disable_neuron_cache", help="Neither look up nor store compiled programs in the Neuron cache."),
    _switch("--with_vae_encoder", help="Compile the VAE encoder too; text-to-image does not use it."),
    _switch("--force", help="Start over: forget what an interrupted export finished, replace an export in output."),
)

HUB = (
    _flag(
        "--push_to_hub",
        metavar="REPO",
        help="Push the result to this repository of the Hugging Face Hub, with a model card; --token may write to it.",
    ),
    _switch("--private", help="Make that repository private, if it does not exist."),
    _switch("--allow_emulated", help="Push also what the emulator made and no Neuron device runs."),
)

SHAPES = (
    _flag("--batch_size", type=int, default=1, help="Prompts per run (default: %(default)s)."),
    _flag("--num_images_per_prompt", type=int, default=1, help="Images per prompt (default: %(default)s)."),
    _flag("--height", type=int, help="Image height in pixels; default: the size the checkpoint was trained for."),
    _flag("--width", type=int, help="Image width in pixels; default: the size the checkpoint was trained for."),
    _flag(
        "--vae_tile_size",
        type=int,
        help="Side in pixels of the tiles the VAE decoder takes, spread over the cores; default: above 1024 pixels.",
    ),
    _flag("--sequence_length", type=int, default=300, help="Tokens per prompt (default: %(default)s)."),
)

OPTLEVELS = (
    _switch("-O1", help="Compile fast, with the core optimisations only."),
    _switch("-O2", help="Balance compile time and speed."),
    _switch("-O3", help="Optimise further, with more compile time and host memory."),
)
"""Mutually exclusive; without any of them each component has its own level."""

_NO_UNET = "it has a transformer instead of a UNet; replace that inside the checkpoint"
_NO_LORA = "a LoRA cannot be merged during this export; fuse it into the checkpoint first"
_NO_IP_ADAPTER = "it takes no IP-Adapter"
_ONE_BATCH = "text-to-image has a single batch; use --batch_size"
_LIST = {"nargs": "*"}

REFUSED = (
    _refused("--unet", reason=_NO_UNET),
    _refused("--lora_model_ids", reason=_NO_LORA, **_LIST),
    _refused("--lora_weight_names", reason=_NO_LORA, **_LIST),
    _refused("--lora_adapter_names", reason=_NO_LORA, **_LIST),
    _refused("--lora_scales", reason=_NO_LORA, type=float, **_LIST),
    _refused("--controlnet_ids", reason="it takes no ControlNet", **_LIST),
    _refused("--ip_adapter_id", reason=_NO_IP_ADAPTER, **_LIST),
    _refused("--ip_adapter_subfolder", reason=_NO_IP_ADAPTER, **_LIST),
    _refused("--ip_adapter_weight_name", reason=_NO_IP_ADAPTER, **_LIST),
    _refused("--ip_adapter_scale", reason=_NO_IP_ADAPTER, type=float, **_LIST),
    _refused(
        "--dynamic-batch-size",
        reason="a sharded program has one batch size; requests of any size run in chunks of --batch_size",
        action="store_true",
    ),
    _refused("--output_attentions", reason="the compiled pipeline returns images only", action="store_true"),
    _refused("--output_hidden_states", reason="the compiled pipeline returns images only", action="store_true"),
    _refused("--text_batch_size", reason=_ONE_BATCH, type=int),
    _refused("--image_batch_size", reason=_ONE_BATCH, type=int),
    _refused("--num_beams", reason="nothing is searched with beams", type=int),
    _refused("--num_choices", reason="it belongs to multiple-choice models", type=int),
    _refused("--num_channels", reason="the checkpoint fixes the number of channels", type=int),
    _refused("--image_size", reason="use --height and --width", type=int),
    _refused("--patch_size", reason="the checkpoint fixes the patch size", type=int),
    _refused("--audio_sequence_length", reason="it belongs to audio models", type=int),
)

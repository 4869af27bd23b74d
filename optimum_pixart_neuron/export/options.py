"""What one export is asked to do."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The request of a user; None where the exporter derives the value from the checkpoint or the instance.

    Attributes:
        model: Id on the Hugging Face Hub, or folder, of a PixArt-Sigma checkpoint.
        output: Folder of the compiled pipeline.
        force: Whether to forget what an interrupted export has finished, and to replace an export in `output`.
        subfolder: Folder inside the repository that holds model_index.json; empty for its root.
        components_model: Id on the Hub, or folder, of what `model` lacks; None: the released components of
            PixArt-Sigma (`layout.COMPONENTS_MODEL`), if `model` has no model_index.json.
        transformer: Id or folder of a transformer in place of the model's; an id may go on with @revision and /path.
        text_encoder: The same of a T5 text encoder.
        revision: Branch, tag or commit on the Hub; of `model` alone.
        cache_dir: Download cache.
        token: Access token for the Hub.
        local_files_only: Whether the network is left alone.
        variant: Variant of the weight files, for example "fp16".
        trust_remote_code: Whether code of the repository may run.
        instance_type: Family ("trn2") or full name ("trn2.48xlarge").
        torch_dtype: "bfloat16", "float16" or "float32".
        tensor_parallel_size: Cores that the model is spread over.
        parallel_mode: "context", "tensor" or "data".
        exchange: "gather" or "all-to-all", in context mode; None: whichever sends fewer bytes.
        attention: "nki" for the SDK's kernel in self-attention, "math" for none, "auto" for one that takes the size.
        no_guidance: Whether the transformer is compiled without the guidance pair, for few-step checkpoints.
        batch_size: Prompts per run.
        num_images_per_prompt: Images per prompt.
        height: Pixels.
        width: Pixels.
        sequence_length: Tokens per prompt.
        vae_tile_size: Side in pixels of the tiles that the VAE decoder takes; None: whole images up to 1024 pixels.
        auto_cast: "matmul" or "all"; None: nothing is cast.
        auto_cast_type: "bf16", "fp16" or "tf32".
        optlevel: 1, 2 or 3; None: the level of each component.
        compiler_workdir: Folder for the compiler's intermediate files.
        inline_weights_to_neff: Whether weights become part of the compiled program.
        disable_validation: Whether the comparison with the original model is left out.
        disable_neuron_cache: Whether the Neuron cache is left alone.
        atol: Largest absolute difference allowed in that comparison.
        with_vae_encoder: Whether the VAE encoder is compiled too.
        push_to_hub: Repository on the Hub that the result is pushed to.
        private: Whether that repository is private, if it is made.
        allow_emulated: Whether artifacts of the emulator may be pushed.
    """

    model: str
    output: Path
    force: bool = False
    subfolder: str = ""
    components_model: str | None = None
    transformer: str | None = None
    text_encoder: str | None = None
    revision: str | None = None
    cache_dir: str | None = None
    token: str | None = None
    local_files_only: bool = False
    variant: str | None = None
    trust_remote_code: bool = False
    instance_type: str | None = None
    torch_dtype: str = "bfloat16"
    tensor_parallel_size: int | None = None
    parallel_mode: str | None = None
    exchange: str | None = None
    attention: str = "auto"
    no_guidance: bool = False
    batch_size: int = 1
    num_images_per_prompt: int = 1
    height: int | None = None
    width: int | None = None
    sequence_length: int = 300
    vae_tile_size: int | None = None
    auto_cast: str | None = None
    auto_cast_type: str = "bf16"
    optlevel: int | None = None
    compiler_workdir: Path | None = None
    inline_weights_to_neff: bool = False
    disable_validation: bool = False
    disable_neuron_cache: bool = False
    atol: float | None = None
    with_vae_encoder: bool = False
    push_to_hub: str | None = None
    private: bool = False
    allow_emulated: bool = False

    @classmethod
    def from_args(cls, args: Namespace) -> ExportOptions:
        """Build the options from the command's flags.

        Args:
            args: What `commands.arguments.parse` returns.
        """
        values = {field.name: getattr(args, field.name) for field in fields(cls) if hasattr(args, field.name)}
        values["auto_cast"] = None if args.auto_cast == "none" else args.auto_cast
        values["inline_weights_to_neff"] = args.inline_weights_neff
        values["optlevel"] = next((level for level in (1, 2, 3) if getattr(args, f"O{level}")), None)
        return cls(**values)

"""Every choice of one export: what the user asked for, defaults for the rest, refusals before any weight is read."""

from dataclasses import dataclass, replace

import torch

from ..checkpoint.checkpoint import PixArtCheckpoint
from ..commands.arguments import check_choices
from ..components.common.attention_kernel import WRITTEN_OUT, available_kernels, choose_kernel
from ..errors import InvalidExportOption
from ..export.options import ExportOptions
from ..hardware import Instance, get_instance
from ..neuron.compiler import CompilerSettings
from ..neuron.sdk import NeuronSdk
from ..parallel.exchange import EXCHANGES
from ..parallel.plans import TEXT_ENCODER_PLAN, TRANSFORMER_PLAN
from ..parallel.split import ContextSplit, Split, TensorSplit
from .decisions import (
    check_dtype,
    check_side,
    choose_ranks,
    exchange_of,
    guidance_groups_of,
    takes_guidance_pair,
    vae_tile_of,
)

# `sample_size` of the transformer -> name of its aspect-ratio table in diffusers 0.35 `pipeline_pixart_sigma.py`.
RESOLUTION_BINS = {
    32: "ASPECT_RATIO_256_BIN",
    64: "ASPECT_RATIO_512_BIN",
    128: "ASPECT_RATIO_1024_BIN",
    256: "ASPECT_RATIO_2048_BIN",
}


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """One export, decided.

    Attributes:
        instance: the machine the artifacts are for.
        ranks: logical cores of the pipeline; all of them run the text encoder together.
        parallel_mode: how the transformer uses them: "context", "tensor" or "data"; None on one core.
        guidance_groups: rows of a guided step that different ranks may own: 2, or 1 without guidance.
        exchange: of self-attention in context mode, a name of `parallel.exchange.EXCHANGES`; None in other modes.
        weights_dtype: of weights and matmuls.
        batch_size: prompts a run.
        num_images_per_prompt: images a prompt.
        height: pixels.
        width: pixels.
        sequence_length: tokens a prompt.
        vae_scale_factor: pixels a latent cell.
        vae_tile: height and width in pixels of what the VAE decoder takes at once; the image, or a tile of it.
        compiler: compiler flags that do not depend on the component.
        with_vae_encoder: whether the VAE encoder is compiled too.
        attention_kernel: of self-attention, a name of `modeling.attention_kernel.KERNELS`; None: it is written out.
        notes: what the user should know of these choices, a line each.
    """

    instance: Instance
    ranks: int
    parallel_mode: str | None
    guidance_groups: int
    exchange: str | None
    weights_dtype: torch.dtype
    batch_size: int
    num_images_per_prompt: int
    height: int
    width: int
    sequence_length: int
    vae_scale_factor: int
    vae_tile: tuple[int, int]
    compiler: CompilerSettings
    with_vae_encoder: bool
    attention_kernel: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Images one run makes."""
        return self.batch_size * self.num_images_per_prompt

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width in latent cells."""
        return self.height // self.vae_scale_factor, self.width // self.vae_scale_factor

    @property
    def guided(self) -> bool:
        """Whether the transformer takes the guidance pair in one run."""
        return takes_guidance_pair(self.guidance_groups, self.ranks)

    def split_of(self, component: str) -> Split | None:
        """How a component runs on several ranks, None for one core."""
        if self.ranks == 1:
            return None
        if component == "text_encoder":
            return TensorSplit(plan=TEXT_ENCODER_PLAN, ranks=self.ranks)
        if component == "transformer" and self.parallel_mode == "tensor":
            return TensorSplit(plan=TRANSFORMER_PLAN, ranks=self.ranks)
        if component == "transformer" and self.parallel_mode == "context":
            return ContextSplit(ranks=self.ranks, guidance_groups=self.guidance_groups, exchange=self.exchange)
        return None

    def mode_of(self, component: str) -> str | None:
        """How a component uses the cores: its split's mode, "data" for copies on all of them, None for one core."""
        split = self.split_of(component)
        return split.mode if split else self.parallel_mode and "data"

    def _tiles(self) -> str:
        tall, wide = self.vae_tile
        return "" if self.vae_tile == (self.height, self.width) else f", decoded in tiles of {wide} x {tall} px"

    def table(self) -> list[tuple[str, str]]:
        """What was chosen, for the user, as (name, value)."""
        mode = f"{self.parallel_mode} parallel" if self.parallel_mode else "unsharded"
        if self.exchange:
            sequence_ranks = self.ranks // self.guidance_groups
            mode += f": {self.guidance_groups} guidance x {sequence_ranks} sequence, exchange {self.exchange}"
        return [
            ("instance", f"{self.instance.name} (--target {self.compiler.target}, LNC {self.compiler.lnc})"),
            ("cores", f"{self.ranks} ({mode})"),
            ("image", f"{self.width} x {self.height} px{self._tiles()}"),
            ("batch", f"{self.batch_size} prompt(s) x {self.num_images_per_prompt} image(s)"),
            ("text", f"{self.sequence_length} tokens"),
            ("attention", self.attention_kernel or WRITTEN_OUT),
            ("dtype", str(self.weights_dtype).removeprefix("torch.")),
        ]


def resolve(options: ExportOptions, checkpoint: PixArtCheckpoint, sdk: NeuronSdk) -> ExportSettings:
    """Decide everything that `options` leaves open.

    Raises:
        InvalidExportOption: a value that the checkpoint or the instance cannot have; names value, limit and flag.
    """
    check_choices(options)
    instance = _instance(options, sdk)
    transformer = checkpoint.config("transformer")
    scale = 2 ** (len(checkpoint.config("vae")["block_out_channels"]) - 1)
    for flag in ("batch_size", "num_images_per_prompt", "sequence_length"):
        if getattr(options, flag) < 1:
            raise InvalidExportOption(f"--{flag} {getattr(options, flag)} is below 1")
    native = transformer["sample_size"] * scale
    height, width = options.height or native, options.width or native
    notes = _check_size(height, width, transformer, scale)
    tokens = height * width // (scale * transformer["patch_size"]) ** 2
    ranks = choose_ranks(options, instance, checkpoint, tokens)
    mode = (options.parallel_mode or "context") if ranks > 1 else None
    groups = guidance_groups_of(options)
    settings = ExportSettings(
        instance=instance,
        ranks=ranks,
        parallel_mode=mode,
        guidance_groups=groups,
        exchange=exchange_of(options, transformer, tokens, ranks // groups) if mode == "context" else None,
        weights_dtype=_dtype(options),
        batch_size=options.batch_size,
        num_images_per_prompt=options.num_images_per_prompt,
        height=height,
        width=width,
        sequence_length=options.sequence_length,
        vae_scale_factor=scale,
        vae_tile=vae_tile_of(options, height, width, scale),
        compiler=CompilerSettings(
            target=instance.compile_target,
            lnc=instance.default_lnc,
            auto_cast=options.auto_cast,
            auto_cast_type=options.auto_cast_type,
            optlevel=options.optlevel,
        ),
        with_vae_encoder=options.with_vae_encoder,
        notes=notes,
    )
    return replace(settings, attention_kernel=_attention_kernel(options.attention, settings, transformer, tokens))


def _instance(options: ExportOptions, sdk: NeuronSdk) -> Instance:
    name = options.instance_type or sdk.instance
    if name is None:
        raise InvalidExportOption("this machine has no Neuron device to compile for; name one with --instance_type")
    try:
        return get_instance(name)
    except ValueError as error:
        raise InvalidExportOption(f"--instance_type {name}: {error}") from None


def _dtype(options: ExportOptions) -> torch.dtype:
    check_dtype(options.torch_dtype)
    return getattr(torch, options.torch_dtype)


def _attention_kernel(requested: str, settings: ExportSettings, transformer: dict, tokens: int) -> str | None:
    """The kernel for the self-attention of one core, by the part of it that the mode leaves to a core."""
    heads, queries, keys, rows = transformer["num_attention_heads"], tokens, tokens, settings.images
    if settings.parallel_mode == "context":
        sequence_ranks = settings.ranks // settings.guidance_groups
        queries, keys, heads = EXCHANGES[settings.exchange].attended(tokens, heads, sequence_ranks)
    else:
        rows *= 2 if settings.guided else 1
        heads //= settings.ranks if settings.parallel_mode == "tensor" else 1
    return choose_kernel(
        requested,
        head_width=transformer["attention_head_dim"],
        query_tokens=queries,
        key_tokens=keys,
        batch_heads=rows * heads,
        lnc=settings.compiler.lnc,
        dtype=settings.weights_dtype,
        available=available_kernels(),
    )


def _check_size(height: int, width: int, transformer: dict, scale: int) -> tuple[str, ...]:
    cell = scale * transformer["patch_size"]
    for flag, size in (("height", height), ("width", width)):
        check_side(flag, size, cell)
    bins = {tuple(map(int, shape)) for shape in resolution_bins(transformer["sample_size"]).values()}
    native = transformer["sample_size"] * scale
    sides = [side for shape in bins for side in shape] or [native // 2, native * 2]
    for flag, size in (("height", height), ("width", width)):
        if not min(sides) <= size <= max(sides):
            limits = f"{min(sides)} to {max(sides)}"
            raise InvalidExportOption(f"--{flag} {size}: the checkpoint was trained for sides of {limits} pixels")
    if (height, width) in bins:
        return ()
    reason = f"{width} x {height} is none of the checkpoint's resolutions" if bins else "the checkpoint has no bins"
    return (f"{reason}: optimum.neuron's own class needs use_resolution_binning=False",)


def resolution_bins(sample_size: int) -> dict[str, list[float]]:
    """diffusers' table of aspect ratio -> (height, width) in pixels for a checkpoint's `sample_size` (latent cells).

    Requested sizes are mapped to these shapes. Empty for a size that diffusers has no table for.
    """
    if sample_size not in RESOLUTION_BINS:
        return {}
    from diffusers.pipelines.pixart_alpha import pipeline_pixart_sigma

    return getattr(pipeline_pixart_sigma, RESOLUTION_BINS[sample_size])

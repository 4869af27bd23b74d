"""Every choice of one export: what the user asked for, defaults for the rest, refusals before any weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..checkpoint.layout import SIGMA
from ..components.common.attention_kernel import WRITTEN_OUT, Attended, available_kernels, choose_kernel
from ..components.component import Component
from ..components.registry import COMPONENTS, IMAGE_DECODER
from ..errors import InvalidExportOption
from ..hardware import Instance, get_instance
from ..neuron.compiler import CompilerSettings
from ..neuron.sdk import NeuronSdk
from ..parallel.modes import ParallelMode, Workload
from .decisions import Configurations, Question
from .options import BINS, DeploymentOptions
from .sides import Size, pixels


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One way to run the pipeline on an instance, decided once, for export, planner, benchmark and validation.

    Attributes:
        instance: the machine the artifacts are for.
        mode: how the denoiser uses the cores; all ranks run the text encoder together.
        weights_dtype: of weights and matmuls.
        batch_size, num_images_per_prompt: prompts a run, images a prompt.
        height, width: pixels.
        sequence_length: tokens a prompt.
        vae_scale_factor: pixels a latent cell.
        modes: how each component uses the cores, by its name.
        vae_tile: height and width in pixels of what the VAE decoder takes at once; the image, or a tile of it.
        compiler: compiler flags that do not depend on the component.
        attention_kernel: of self-attention, a name of `attention_kernel.KERNELS`; None: it is written out.
        masked_kernel: likewise of cross-attention.
        notes: what the user should know of these choices, a line each.
        others: the same for the further programs of an export of several: another size, or without the guidance pair.
    """

    instance: Instance
    mode: ParallelMode
    weights_dtype: torch.dtype
    batch_size: int
    num_images_per_prompt: int
    height: int
    width: int
    sequence_length: int
    vae_scale_factor: int
    modes: Mapping[str, ParallelMode]
    vae_tile: tuple[int, int]
    compiler: CompilerSettings
    attention_kernel: str | None = None
    masked_kernel: str | None = None
    notes: tuple[str, ...] = ()
    others: tuple["Deployment", ...] = ()

    @property
    def each(self) -> tuple["Deployment", ...]:
        """This one and the others."""
        return (self, *self.others)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    def mode_of(self, component: Component) -> ParallelMode:
        """How a component uses the cores."""
        return self.modes[component.name]

    @property
    def images(self) -> int:
        """Images one run makes."""
        return self.batch_size * self.num_images_per_prompt

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width in latent cells."""
        return self.height // self.vae_scale_factor, self.width // self.vae_scale_factor

    @property
    def ranks(self) -> int:
        """Logical cores of a program that all of them run."""
        return self.mode.ranks

    @property
    def parallel_mode(self) -> str | None:
        """The mode's name; None on one core."""
        return self.mode.name

    @property
    def cores(self) -> int:
        """Cores that the pipeline holds: programs of one core are loaded on two, see `runtime.pipeline`."""
        return max(self.ranks, 2)

    @property
    def replicas(self) -> int:
        """Pipelines that the instance holds side by side."""
        return self.instance.logical_cores() // self.cores

    @property
    def batches(self) -> int:
        """Compiled batches that are under way at once in one pipeline."""
        return self.mode.batches(self.cores)

    def _decoding(self) -> str:
        mode = self.mode_of(IMAGE_DECODER)
        if mode.shares_batch:
            return f", decoded {mode.describe()}"
        return "" if self.vae_tile == (self.height, self.width) else f", decoded in tiles of {pixels(self.vae_tile)}"

    def _sizes(self) -> str:
        return pixels(*dict.fromkeys(each.size for each in self.each))

    def _attention(self) -> str:
        own, cross = self.attention_kernel or WRITTEN_OUT, self.masked_kernel or WRITTEN_OUT
        return own if own == cross else f"{own}, cross-attention {cross}"

    def table(self) -> list[tuple[str, str]]:
        """What was chosen, for the user, as (name, value)."""
        return [
            ("instance", f"{self.instance.name} (--target {self.compiler.target}, LNC {self.compiler.lnc})"),
            ("cores", f"{self.ranks} ({self.mode.describe()})"),
            ("image", f"{self._sizes()}{self._decoding()}"),
            *([("guidance", "with it and without")] if {each.mode.takes_pair for each in self.each} > {True} else []),
            ("batch", f"{self.batch_size} prompt(s) x {self.num_images_per_prompt} image(s)"),
            ("text", f"{self.sequence_length} tokens"),
            ("attention", self._attention()),
            ("dtype", str(self.weights_dtype).removeprefix("torch.")),
        ]


def decide(options: DeploymentOptions, checkpoint: Configurations, instance: Instance) -> Deployment:
    """Decide everything that `options` leave open, for this process's SDK.

    Raises:
        InvalidExportOption: a value that the checkpoint or the instance cannot have; names value, limit and flag.
    """
    question = Question(options, checkpoint, instance)
    sizes = question.sizes()
    notes = question.check_size(sizes[0])
    by_hand = options.sizes != (BINS,)
    ranks = question.ranks(sizes if by_hand else sizes[:1])
    pairs, said = question.pairs(ranks)
    found: list[Deployment] = []
    for size in sizes:
        try:
            question.check_size(size)
            found += [_decide_one(question, size, ranks, guided) for guided in pairs]
        except InvalidExportOption as refused:
            if options.sizes and by_hand:
                raise InvalidExportOption(f"--sizes {size[0]}x{size[1]}: {refused}") from None
            if not found:
                raise
            notes += (f"--sizes {BINS}: {size[0]}x{size[1]} is left out, {refused}",)
    programs = len({each.size for each in found})
    if programs > 1 and not found[0].mode.shares_batch:
        raise InvalidExportOption(
            f"--sizes: {programs} programs of one core cannot share their weights, as those of several ranks do;"
            " export each size by itself, or choose another --tensor_parallel_size or --parallel_mode"
        )
    return replace(found[0], notes=(*notes, *question.group_notes(ranks), *said), others=tuple(found[1:]))


def _decide_one(question: Question, size: Size, ranks: int, guided: bool) -> Deployment:
    """One program of the denoiser, and what goes with it."""
    options, instance = question.options, question.instance
    mode = question.mode(size, ranks, guided)
    modes = {name: component.mode(mode, options) for name, component in COMPONENTS.items()}
    deployment = Deployment(
        instance=instance,
        mode=mode,
        modes=modes,
        weights_dtype=getattr(torch, options.torch_dtype),
        batch_size=options.batch_size,
        num_images_per_prompt=options.num_images_per_prompt,
        height=size[0],
        width=size[1],
        sequence_length=options.sequence_length or SIGMA.tokens,
        vae_scale_factor=question.scale,
        vae_tile=question.vae_tile(modes[IMAGE_DECODER.name], size),
        compiler=CompilerSettings(
            target=instance.compile_target,
            lnc=instance.default_lnc,
            auto_cast=options.auto_cast,
            auto_cast_type=options.auto_cast_type,
            optlevel=options.optlevel,
        ),
    )
    return _with_kernels(deployment, options.attention, question.workload(size))


def chosen_instance(options: DeploymentOptions, sdk: NeuronSdk) -> Instance:
    """The instance that the options name, or this machine; InvalidExportOption where neither is known."""
    name = options.instance_type or sdk.instance
    if name is None:
        raise InvalidExportOption("this machine has no Neuron device to compile for; name one with --instance_type")
    try:
        return get_instance(name)
    except ValueError as error:
        raise InvalidExportOption(f"this machine is an {error}; name one with --instance_type") from None


def _with_kernels(deployment: Deployment, requested: str, work: Workload) -> Deployment:
    """Choose what computes attention, by the part of it that the mode leaves to a core: one kernel for both kinds."""
    share = deployment.mode.share(work, deployment.images * (2 if deployment.mode.takes_pair else 1))
    own = Attended(
        head_width=work.head_width,
        query_tokens=share.query_tokens,
        key_tokens=share.key_tokens,
        batch_heads=share.rows * share.heads,
    )
    heads = work.heads // deployment.ranks if deployment.mode.divides_heads else work.heads
    cross = Attended(
        head_width=work.head_width,
        query_tokens=share.own_tokens,
        key_tokens=deployment.sequence_length,
        batch_heads=share.rows * heads,
        masked=True,
    )
    choose = partial(
        choose_kernel,
        requested,
        instance=deployment.instance,
        lnc=deployment.compiler.lnc,
        dtype=deployment.weights_dtype,
    )
    kernel = choose(own, available=available_kernels())
    masked = choose(cross, available=[kernel]) if kernel else None
    return replace(deployment, attention_kernel=kernel, masked_kernel=masked)

"""What every phase may ask of one component, in one object; `registry.py` lists them all. Imports nothing heavy.

A `Part` is a folder of a checkpoint, a `Component` is a program compiled from one. Both are described in
`components/<name>/spec.py`, and no other file of the package spells their names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from ..neuron.compiler import ComponentFlags
from ..parallel.modes import DataParallel, ParallelMode, Workload
from ..parallel.sharding import ShardingPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..checkpoint.checkpoint import PixArtCheckpoint
    from ..deployment.deployment import Deployment
    from ..deployment.options import DeploymentOptions
    from .common.attention_kernel import KernelAttention
    from .common.configuration import Configuration
    from .common.copied import CopiedPart
    from .common.original import Original
    from .common.single_file import SingleFile


@dataclass(frozen=True, kw_only=True)
class Seam:
    """A size that two parts of a checkpoint must have in common.

    Attributes:
        key: in the configuration of the part that declares the seam.
        giver: name of the other part.
        giver_key: in that part's configuration.
    """

    key: str
    giver: str
    giver_key: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One folder of a checkpoint.

    Attributes:
        name: of the folder, and of the entry in model_index.json.
        library: that has its class, in model_index.json where no index of the checkpoint names it.
        class_name: the class, likewise.
        configuration: the file that says what the part is.
        weights: stem of its weight files; None for a part that is loaded and copied instead of compiled.
        settings: what the configuration of a compiled part may say; None for any JSON object.
        copied: reads and loads a part that is copied; None for a compiled one.
        seams: sizes that must be equal to those of other parts.
        recognize: tells by a folder's config.json that the folder is this part; None where a folder cannot be one.
        flag_help: what `--<name>` of the command says; such a flag takes the part from another checkpoint. None for a
            part without one.
        check: raises CheckpointError for a checkpoint whose part cannot be exported; called with all configurations
            at hand.
        notes: lines that the user should read about this part of a checkpoint.
        single_file: how a file of other names holds it alone; None where there is no such form.
        optional: whether a checkpoint may lack it; components made from it are then left out.
        released: of the configuration of PixArt-Sigma's released checkpoints, what decides sizes: for plans without a
            checkpoint. None for a part that they do not have.
    """

    name: str
    library: str
    class_name: str
    configuration: str = "config.json"
    weights: str | None = None
    settings: type[Configuration] | None = None
    copied: type[CopiedPart] | None = None
    seams: tuple[Seam, ...] = ()
    recognize: Callable[[dict], bool] | None = None
    flag_help: str | None = None
    check: Callable[[PixArtCheckpoint], None] | None = None
    notes: Callable[[PixArtCheckpoint], Iterable[str]] | None = None
    single_file: SingleFile | None = None
    optional: bool = False
    released: Mapping[str, Any] | None = None

    @property
    def stem(self) -> str:
        """Of its weight files; a part that is copied has none."""
        assert self.weights is not None
        return self.weights

    @property
    def small_files(self) -> tuple[str, ...]:
        """Names of the files, in its folder, that are read before any weight."""
        return tuple(self.copied.FILES) if self.copied else (self.configuration,)

    def expected_files(self, *, weights: bool) -> list[str]:
        """Its files, by path, in a checkpoint that is not sharded and of which nothing is known; weights if asked."""
        needed = self.copied.NEEDED if self.copied else (self.configuration,)
        heavy = [f"{self.weights}.safetensors"] if weights and self.weights is not None else []
        return [f"{self.name}/{file}" for file in (*needed, *heavy)]


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a compiled program.

    Attributes:
        name: as the module's `forward` calls it.
        axes: names of the config's axes, or numbers.
        dtype: what the stock loader passes, by its name in torch.
    """

    name: str
    axes: tuple[str | int, ...]
    dtype: str

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Of the tensor, by the sizes of the named axes."""
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes)


class Per(Enum):
    """What a call of the pipeline runs a component once for."""

    PROMPT = "prompt"
    """Each batch of prompts, and with guidance each batch of negative prompts."""
    STEP = "step"
    """Each denoising step."""
    IMAGE = "image"
    """Each image, or each tile of one."""
    NEVER = "never"
    """Text-to-image does not call it."""


@dataclass(frozen=True, kw_only=True)
class ComputedWeight:
    """A weight that the checkpoint does not hold under its name.

    Attributes:
        sources: weights of the checkpoint that it is computed from, with their shapes.
        compute: makes it, of what was read, in the order of `sources`.
    """

    sources: Mapping[str, tuple[int, ...]]
    compute: Callable[..., Tensor]


ONE_HALF = "-one-half"
"""Ends the name of a program that takes one half of the guidance pair."""


def first_output(output: Any) -> Any:
    """The first tensor of what a program returns: itself, or in a dict, tuple or list."""
    if isinstance(output, dict):
        return next(iter(output.values()))
    return output[0] if isinstance(output, (tuple, list)) else output


class Component(ABC):
    """One compiled program, for every phase: export, plan, validation, benchmark and pipeline.

    Methods take `config`, the part's `config.json`; `deployment`, decided; and `shapes`, as the method of this name
    gives them.

    Class attributes:
        name: folder in the export, and attribute of the pipeline.
        label: short name for tables and plots.
        colour: in plots, as matplotlib takes it.
        part: of the checkpoint, that it is made from.
        model_type, task: under which its export config is registered with optimum's TasksManager.
        host_config: class of `optimum.exporters.neuron.model_configs` that this config extends, which makes the
            stock loader find what it knows; None for a component that optimum-neuron has no config for.
        per: how often a call of the pipeline runs it.
        required: whether text-to-image is impossible without it.
        follows: name of the component whose first output it takes as its first input, and replaces by its own first
            output, see `runtime.followers`; None for those that diffusers' pipeline calls by itself.
        inputs: of the program, in call order.
        outputs: names of what it returns, in order.
        rank_outputs: those of the outputs of which each rank returns its own; the others are promised to be equal, bit
            for bit, on all ranks that run the program together.
        flags: of the compiler.
        plan: how tensor-parallel ranks divide its weights; None where they cannot.
        repeated: names under which a checkpoint may hold a weight a second time.
        needs_model_builder: whether it is an NxD program even on one core, which keeps its weights out of the archive.
        takes_guidance: whether it runs on both rows of the guidance pair at once where the mode can.
        blocks: key of the part's configuration that counts the equal blocks which the program has one after another;
            None for a program that is built otherwise.
        runs_at_its_bound: whether it is expected to take no longer than the hardware must, see `planner.published`.
        has_kernel: whether its attention may be computed by the SDK's attention kernel.
        loads_lazily: whether the program is loaded only when it is replicated (`torch_neuronx.lazy_load`).
        own_mode: how it runs on several ranks; by default a copy on every core.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    colour: ClassVar[str] = "#555555"
    part: ClassVar[Part]
    model_type: ClassVar[str]
    task: ClassVar[str]
    host_config: ClassVar[str | None] = None
    per: ClassVar[Per]
    required: ClassVar[bool] = True
    follows: ClassVar[str | None] = None
    inputs: ClassVar[tuple[Input, ...]]
    outputs: ClassVar[tuple[str, ...]]
    rank_outputs: ClassVar[tuple[str, ...]] = ()
    flags: ClassVar[ComponentFlags]
    plan: ClassVar[ShardingPlan | None] = None
    repeated: ClassVar[tuple[str, ...]] = ()
    needs_model_builder: ClassVar[bool] = False
    takes_guidance: ClassVar[bool] = False
    blocks: ClassVar[str | None] = None
    runs_at_its_bound: ClassVar[bool] = False
    has_kernel: ClassVar[bool] = False
    loads_lazily: ClassVar[bool] = False
    own_mode: ClassVar[type[ParallelMode]] = DataParallel

    def is_exported(self, options: Any) -> bool:
        """Whether an export with these options compiles it; `options` are `ExportOptions`."""
        return True

    @abstractmethod
    def shapes(self, config: dict, deployment: Deployment) -> dict[str, int]:
        """Sizes of the axes of `inputs`, by the names of optimum-neuron's `InputShapesArguments`.

        `batch_size` is that of one run without guidance.
        """

    def example_inputs(self, shapes: Mapping[str, int], *, guided: bool) -> tuple[Tensor, ...]:
        """Tensors of ones with the shapes and dtypes of the compiled program, in call order.

        Args:
            guided: whether the program takes the guidance pair, twice the batch.
        """
        import torch

        sizes = {**shapes, "batch_size": shapes["batch_size"] * (2 if guided else 1)}
        return tuple(torch.ones(given.shape(sizes), dtype=getattr(torch, given.dtype)) for given in self.inputs)

    def size(self, deployment: Deployment) -> tuple[int, int]:
        """Height and width in pixels of what the program makes, by which programs of several sizes are called."""
        return deployment.size

    def pieces(self, config: dict, deployment: Deployment) -> int:
        """Runs of the program that one image takes, where it runs for each image."""
        return 1

    @abstractmethod
    def build(
        self, config: dict, shapes: Mapping[str, int], dtype: torch.dtype, kernel: KernelAttention | None = None
    ) -> nn.Module:
        """The module as it computes on one core, its weights uninitialised on the current default device.

        Args:
            dtype: of weights and matmuls.
            kernel: computes attention; None for the written-out form.
        """

    def computed_weights(
        self, config: dict, shapes: Mapping[str, int], stored: Collection[str]
    ) -> dict[str, ComputedWeight]:
        """Weights that the checkpoint does not hold under their name, by state-dict name.

        Args:
            stored: names of the weights in the checkpoint.
        """
        return {}

    def workload(self, config: dict, tokens: int) -> Workload:
        """What a parallel mode can divide of it.

        Args:
            tokens: of one image.
        """
        return Workload(plan=self.plan, config=config)

    def mode(self, chosen: ParallelMode, options: DeploymentOptions) -> ParallelMode:
        """How the component runs where the pipeline runs in the mode `chosen`; by default in its own.

        Raises:
            InvalidExportOption: what the options ask for does not go with that mode.
        """
        if chosen.ranks == 1:
            return chosen
        return self.own_mode(ranks=chosen.ranks, guidance_groups=chosen.guidance_groups)

    def has_dynamic_batch(self, deployment: Deployment) -> bool:
        """Whether the program itself cuts larger batches, as the stock class needs it."""
        return False

    def finish_config(self, config: dict) -> None:  # noqa: B027  most have nothing to change
        """Change, in place, what the export writes as the component's `config.json`, where loaders need it."""

    @abstractmethod
    def original(self) -> Original:
        """The component before compilation, for the comparison with it."""

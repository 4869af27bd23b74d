"""The parallel modes, one class each: how the cores of a pipeline share its work. A mode's name is spelled only here.

An instance is a mode that was decided on, for a number of ranks. What it divides is a component's `Workload`; what one
rank then has of it is a `_Share`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..errors import InvalidExportOption
from ..hardware import Instance
from .exchange import EXCHANGES, HeadAllToAll, choose_exchange
from .sharding import ShardingPlan
from .split import ContextSplit, RowSplit, Split, TensorSplit

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..deployment.options import DeploymentOptions

# Ranks unless asked otherwise: the AWS sample's latency variants (trn2: one chip of 4 logical cores, else 8 cores).
DEFAULT_RANKS = {"trn2": 4, "trn1": 8, "trn1n": 8, "inf2": 8}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What of a component's program a mode may divide.

    Attributes:
        plan: how its weights can be divided; None where they cannot.
        config: the checkpoint's configuration of it.
        tokens: of one row in self-attention; 0 for a component without any.
        heads: of self-attention.
        head_width: channels of a head.
    """

    plan: ShardingPlan | None
    config: dict
    tokens: int = 0
    heads: int = 0
    head_width: int = 0


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What one rank computes in the self-attention of one run.

    Attributes:
        rows: images or prompts, each half of a guidance pair counted.
        own_tokens: of a row, outside attention.
        query_tokens, key_tokens: of a row.
        heads: of all rows alike.
    """

    rows: int
    own_tokens: int
    query_tokens: int
    key_tokens: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class ParallelMode:
    """One mode, decided.

    Class attributes:
        name: `--parallel_mode`, and what config.json and the manifest call it; None for one core.
        label: in legends.
        help: half a sentence for the command's help.
        colour, marker: in plots, as matplotlib takes them.
        divides_heads: whether each rank has heads of its own, also in cross-attention.
        shares_batch: whether all ranks work on one batch; else each core has images of its own.
        runs_pairs: whether a run takes both rows of the guidance pair, where there is one.

    Attributes:
        ranks: logical cores of a program that all of them run.
        guidance_groups: rows of a guided step that different ranks may own: 2, or 1 without guidance.
        exchange: how ranks see each other's tokens, a name of `EXCHANGES`; None where they need not.
    """

    name: ClassVar[str | None]
    label: ClassVar[str]
    help: ClassVar[str] = ""
    colour: ClassVar[str] = "#555555"
    marker: ClassVar[str] = "o"
    divides_heads: ClassVar[bool] = False
    shares_batch: ClassVar[bool] = True
    runs_pairs: ClassVar[bool] = True

    ranks: int
    guidance_groups: int = 1
    exchange: str | None = None

    @classmethod
    def wanted_ranks(cls, instance: Instance) -> int:
        """Ranks on an instance where the user names no number, if so many can share the work."""
        return min(DEFAULT_RANKS[instance.family], instance.logical_cores())

    @property
    def takes_pair(self) -> bool:
        """Whether one run takes both rows of the guidance pair."""
        return self.runs_pairs and self.guidance_groups == 2

    def check(self, work: Workload) -> None:
        """Refuse a number of ranks that cannot share this work; 1 always can.

        Raises:
            InvalidExportOption: names the number, what it does not divide, and the flag.
        """

    def settled(self, work: Workload, options: DeploymentOptions) -> Self:
        """The mode with what the user asked for, or leaves to it, of its own options.

        Raises:
            InvalidExportOption: the mode cannot do that with this work; names value, limit and flag.
        """
        return self

    def split(self, plan: ShardingPlan | None) -> Split | None:
        """How a component is split over the ranks, by its `Component.plan`; by default not, a program on each core."""
        return None

    def share(self, work: Workload, rows: int) -> _Share:
        """What one rank has of a run on `rows` rows; by default all of it."""
        return _Share(
            rows=rows, own_tokens=work.tokens, query_tokens=work.tokens, key_tokens=work.tokens, heads=work.heads
        )

    def batches(self, cores: int) -> int:
        """Compiled batches that are under way at once on the `cores` of a pipeline."""
        if self.shares_batch:
            return 1
        return cores if self.takes_pair else cores // self.guidance_groups

    def describe(self) -> str:
        """The mode in words, for the table of an export."""
        return f"{self.name} parallel"


class ContextParallel(ParallelMode):
    """Guidance x sequence: rows of the guidance pair over groups of ranks, image tokens inside a group."""

    name = "context"
    label = "context: guidance x sequence"
    help = "splits the guidance pair and the image tokens"
    colour, marker = "#0072B2", "o"

    @property
    def sequence_ranks(self) -> int:
        """Ranks that share the tokens of a row."""
        return self.ranks // self.guidance_groups

    def check(self, work: Workload) -> None:
        if self.ranks % self.guidance_groups:
            raise InvalidExportOption(
                f"--tensor_parallel_size {self.ranks} is odd, and the guidance pair needs {self.guidance_groups} equal"
                " groups; choose an even number or --no_guidance"
            )
        if work.tokens % self.sequence_ranks:
            raise InvalidExportOption(
                f"--tensor_parallel_size {self.ranks}: its {self.sequence_ranks} sequence ranks do not divide the"
                f" {work.tokens} tokens of the image"
            )

    def settled(self, work: Workload, options: DeploymentOptions) -> Self:
        exchange = options.exchange
        if exchange is None:
            exchange = choose_exchange(
                tokens=work.tokens, heads=work.heads, head_width=work.head_width, ranks=self.sequence_ranks
            )
        if exchange == HeadAllToAll.name and work.heads % self.sequence_ranks:
            raise InvalidExportOption(
                f"--exchange {exchange}: {self.sequence_ranks} sequence ranks do not divide the {work.heads} attention"
                " heads"
            )
        return replace(self, exchange=exchange)

    def split(self, plan: ShardingPlan | None) -> Split:
        return ContextSplit(ranks=self.ranks, guidance_groups=self.guidance_groups, exchange=self.exchange)

    def share(self, work: Workload, rows: int) -> _Share:
        assert self.exchange is not None  # see `settled`
        queries, keys, heads = EXCHANGES[self.exchange](ranks=self.sequence_ranks).attended(work.tokens, work.heads)
        return _Share(
            rows=rows // self.guidance_groups,
            own_tokens=work.tokens // self.sequence_ranks,
            query_tokens=queries,
            key_tokens=keys,
            heads=heads,
        )

    def describe(self) -> str:
        groups = f"{self.guidance_groups} guidance x {self.sequence_ranks} sequence"
        return f"{self.name} parallel: {groups}, exchange {self.exchange}"


class TensorParallel(ParallelMode):
    """Weights are divided by a component's plan: attention by heads, feed-forward by width."""

    name = "tensor"
    label = "tensor: divided weights"
    help = "splits the weights"
    divides_heads = True
    colour, marker = "#D55E00", "s"

    def check(self, work: Workload) -> None:
        assert work.plan is not None  # only components that have one are in this mode
        work.plan.check(work.config, self.ranks)

    def split(self, plan: ShardingPlan | None) -> Split:
        assert plan is not None
        return TensorSplit(plan=plan, ranks=self.ranks)

    def share(self, work: Workload, rows: int) -> _Share:
        return replace(super().share(work, rows), heads=work.heads // self.ranks)


class DataParallel(ParallelMode):
    """A copy of the program on each core, with images of its own."""

    name = "data"
    label = "data: images of its own on each core"
    help = "gives each core a copy and images of its own"
    colour, marker = "#009E73", "^"
    shares_batch = False

    @classmethod
    def wanted_ranks(cls, instance: Instance) -> int:
        return instance.logical_cores()  # throughput wants every core, latency as many as one image can use well


class RowParallel(ParallelMode):
    """All ranks work on one picture, each on a band of its rows."""

    name = "rows"
    label = "rows: bands of one picture"
    help = "gives each core a band of rows of every picture"
    runs_pairs = False

    def split(self, plan: ShardingPlan | None) -> Split:
        return RowSplit(ranks=self.ranks)

    def describe(self) -> str:
        return f"in bands of rows over {self.ranks} cores"


class OneCore(ParallelMode):
    """Programs of one core. The stock loader's DataParallel splits the guidance pair over two copies."""

    name = None
    label = "one-core programs on two cores"
    marker = "D"
    shares_batch = False
    runs_pairs = False

    def describe(self) -> str:
        return "unsharded"


DEFAULT_MODE: type[ParallelMode] = ContextParallel
"""What an export takes on several ranks unless it is asked for another one."""

PICTURE_MODES: dict[str, type[ParallelMode]] = {"rows": RowParallel, "images": DataParallel, "one": OneCore}
"""What `--vae_parallel` offers the programs that make or read pictures."""

MODES: dict[str, type[ParallelMode]] = {}
"""By name, in the order of tables; `register_mode` adds to it."""


def register_mode(mode: type[ParallelMode]) -> None:
    """Add a mode to what `parallel_mode`, tables and plots know; ValueError where its name is missing or taken."""
    if mode.name is None:
        raise ValueError(f"{mode.__name__} has no name")
    if mode.name in MODES:
        raise ValueError(f"a parallel mode {mode.name!r} is registered")
    MODES[mode.name] = mode


def unregister_mode(name: str) -> None:
    """Take a mode out again; KeyError where there is none of this name."""
    del MODES[name]


for _mode in (ContextParallel, TensorParallel, DataParallel):
    register_mode(_mode)


def mode_of(name: str | None, ranks: int) -> type[ParallelMode]:
    """The class of `--parallel_mode`; the default one for None, and one core for a single rank."""
    if ranks == 1:
        return OneCore
    return DEFAULT_MODE if name is None else MODES[name]

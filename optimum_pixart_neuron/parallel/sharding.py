"""What a sharding plan is: a list of placements by module path."""

import re
from dataclasses import dataclass
from enum import Enum
from functools import partial

from ..errors import InvalidExportOption, ShardingPlanError


class Placement(Enum):
    """Where a weight lives on W ranks. Linear weights are stored (out, in), as in `torch.nn.Linear`."""

    COLUMN = "column"  # weight split over `out`, bias with it; the output stays split
    ROW = "row"  # weight split over `in`, input arrives split; output all-reduced, then the whole bias is added once
    FIRST_DIM = "first_dim"  # a bare weight split over dim 0
    REPLICATED = "replicated"  # the same on every rank

    @property
    def dim(self) -> int | None:
        """The divided dimension of a weight, None where it is whole on every rank."""
        return {Placement.COLUMN: 0, Placement.ROW: 1, Placement.FIRST_DIM: 0, Placement.REPLICATED: None}[self]


@dataclass(frozen=True)
class _Matching:
    """What is said of all modules whose path matches.

    Attributes:
        path: dotted module path. `*` stands for one name, `**` for one or more, `{a,b}` for alternatives.
    """

    path: str

    def matches(self, name: str) -> bool:
        escaped = re.escape(self.path).replace(r"\*\*", ".+").replace(r"\*", r"[^.]+")
        pattern = re.sub(r"\\{([^}]*)\\}", lambda found: f"(?:{found[1].replace(',', '|')})", escaped)
        return re.fullmatch(pattern, name) is not None


@dataclass(frozen=True)
class Rule(_Matching):
    """One placement. A path that names a parameter itself covers that parameter.

    Attributes:
        placement: where the parameters directly inside those modules live.
    """

    placement: Placement


# Path -> rule, as plans write them.
column = partial(Rule, placement=Placement.COLUMN)
row = partial(Rule, placement=Placement.ROW)
first_dim = partial(Rule, placement=Placement.FIRST_DIM)
replicated = partial(Rule, placement=Placement.REPLICATED)


@dataclass(frozen=True)
class Divided(_Matching):
    """Integer attributes of modules that count what the plan splits, such as a number of heads; divided by W."""

    attributes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Divisor:
    """A size of the checkpoint that W must divide, for the check before any weight is read.

    Attributes:
        name: what it is, in words.
        key: where the number stands in the component's configuration.
    """

    name: str
    key: str


@dataclass(frozen=True, kw_only=True)
class ShardingPlan:
    """The tensor-parallel plan of one component. Every parameter is matched by exactly one rule."""

    component: str
    rules: tuple[Rule, ...]
    divided: tuple[Divided, ...] = ()
    divisors: tuple[Divisor, ...] = ()

    def check(self, config: dict, ranks: int) -> None:
        """Refuse, by InvalidExportOption, a rank count that does not divide the component's sizes."""
        for divisor in self.divisors:
            if config[divisor.key] % ranks:
                raise InvalidExportOption(
                    f"--tensor_parallel_size {ranks} does not divide the {config[divisor.key]} {divisor.name}"
                    f" of the {self.component}"
                )

    def placements(self, parameter_names: list[str]) -> dict[str, Placement]:
        """Match parameters to rules.

        Returns:
            the placement of every name. A column or row placement splits the bias as `Placement` says.

        Raises:
            ShardingPlanError: a parameter without a rule, with two, or a rule without a parameter.
        """
        placed, used = {}, set()
        for name in parameter_names:
            owner = name.rpartition(".")[0]
            matching = [rule for rule in self.rules if rule.matches(owner) or rule.matches(name)]
            if len(matching) != 1:
                paths = ", ".join(rule.path for rule in matching) or "no rule"
                raise ShardingPlanError(f"{self.component}: parameter {name} is matched by {paths}, not by one rule")
            used.add(matching[0])
            row_bias = matching[0].placement is Placement.ROW and name.endswith(".bias")
            placed[name] = Placement.REPLICATED if row_bias else matching[0].placement
        for rule in self.rules:
            if rule not in used:
                raise ShardingPlanError(f"{self.component}: rule {rule.path} matches no parameter")
        return placed

"""One row of a plan for each valid mode and number of ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..deployment.decisions import choose_mode, guidance_groups_of
from ..errors import InvalidExportOption
from ..hardware import INSTANCES, Instance, get_instance
from ..parallel.modes import MODES
from ..program.memory import MemoryNeed, core_bytes
from .components import ComponentPlan, plan_components
from .geometry import XL_2, Geometry
from .placement import Deployment
from .prices import PRICES, Price
from .published import fitted_efficiency
from .request import Request


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """What one deployment needs and, by prediction, does.

    Attributes:
        deployment: instance, mode, ranks, exchange.
        components: in the order they run.
        images: that one pipeline makes at once.
        steps: denoising steps.
        efficiency: lower bound over expected latency of transformer and VAE decoder.
        price: of the instance; None if it is not known.
        is_default: whether the export chooses it when no flag does.
    """

    deployment: Deployment
    components: tuple[ComponentPlan, ...]
    images: int
    steps: int
    efficiency: float
    price: Price | None
    is_default: bool = False

    def component(self, name: str) -> ComponentPlan:
        """One program, by its folder in the export."""
        return next(part for part in self.components if part.component == name)

    @property
    def needed_bytes(self) -> int:
        """Device memory of the fullest core, by the export's own check: all weights, the largest activations."""
        return core_bytes(
            [
                MemoryNeed(
                    component=part.component, weights=part.footprint.weights, activations=part.footprint.activations
                )
                for part in self.components
            ]
        )

    @property
    def hbm_bytes(self) -> int:
        """Device memory of a logical core."""
        return self.deployment.instance.hbm_bytes_per_core()

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.hbm_bytes

    @property
    def flops_per_image(self) -> float:
        """Of all programs on all cores, what several cores compute alike included."""
        return sum(part.work.flops * part.core_runs for part in self.components) / self.images

    @property
    def bytes_sent_per_step(self) -> int:
        """Bytes one core sends in one denoising step."""
        return self.component("transformer").bytes_sent

    @property
    def lower_bound_s(self) -> float:
        """Seconds from the prompt to the images, at the hardware's peaks."""
        return sum(part.lower_bound_s for part in self.components)

    @property
    def bound_by(self) -> str:
        """The resource that bounds for the most of that time, a field of `roofline.Bound`."""
        seconds: Counter[str] = Counter()
        for part in self.components:
            seconds[part.bound.by] += part.lower_bound_s
        return max(seconds, key=seconds.get)

    @property
    def expected_s(self) -> float:
        """Predicted seconds from the prompt to the images."""
        return sum(part.expected_s(self.efficiency) for part in self.components)

    @property
    def images_per_second(self) -> float:
        """Predicted, of the whole instance: pipelines side by side, each busy, none slowing another."""
        return self.deployment.replicas * self.images / self.expected_s

    @property
    def cost_per_1000(self) -> float | None:
        """Predicted US dollars for 1000 images on a busy instance; None without a price."""
        return None if self.price is None else self.price.per_hour / 3600 * 1000 / self.images_per_second


def predict(
    geometry: Geometry,
    request: Request,
    instance: Instance | str,
    *,
    mode: str | None,
    ranks: int,
    efficiency: float | None = None,
    price: Price | None = None,
) -> PlanRow:
    """One deployment.

    Args:
        instance: or its product name, or its family.
        mode: "context" (also for None), "tensor" or "data"; without meaning on one rank.
        ranks: logical cores of a program.
        efficiency: None: the fitted one.
        price: None: the known one, if there is one.

    Raises:
        InvalidExportOption: the export would refuse it, too.
        ValueError: the instance is unknown.
    """
    if isinstance(instance, str):
        instance = get_instance(instance)
    request.check(geometry)
    asked = request.changed(parallel_mode=mode, tensor_parallel_size=ranks)
    tokens, groups = request.tokens(geometry), guidance_groups_of(asked)
    chosen = choose_mode(asked, instance, geometry, tokens)
    deployment = Deployment(
        instance=instance, mode=chosen.name, ranks=ranks, guidance_groups=groups, exchange=chosen.exchange
    )
    return PlanRow(
        deployment=deployment,
        components=tuple(plan_components(geometry, request, deployment)),
        images=request.images * deployment.batches,
        steps=request.num_inference_steps,
        efficiency=fitted_efficiency() if efficiency is None else efficiency,
        price=price or PRICES.get(instance.name),
    )


def deployments(geometry: Geometry, request: Request, instance: Instance) -> Iterator[tuple[str | None, int]]:
    """Every (mode, ranks) that the export accepts and the request does not exclude; (None, 1) is one rank."""
    tokens = request.tokens(geometry)
    asked_for, cores = request.tensor_parallel_size, instance.logical_cores()
    wanted = range(1, cores + 1) if asked_for is None else [asked_for]
    for mode in [request.parallel_mode] if request.parallel_mode else MODES:
        for ranks in wanted:
            if ranks == 1:
                continue
            asked = request.changed(parallel_mode=mode, tensor_parallel_size=ranks)
            try:
                choose_mode(asked, instance, geometry, tokens)
            except InvalidExportOption:
                continue
            yield mode, ranks
    if 1 in wanted and request.parallel_mode is None:
        yield None, 1


def plan(
    request: Request | None = None,
    *,
    geometry: Geometry = XL_2,
    instances: Iterable[Instance | str] = tuple(INSTANCES),
    efficiency: float | None = None,
    prices: Mapping[str, Price] | None = None,
) -> list[PlanRow]:
    """One row for each valid mode and number of ranks on each instance.

    Args:
        instances: or their product names, or families.
        efficiency: None: the one fitted on AWS's measurements.
        prices: by product name, instead of the known ones.

    Raises:
        InvalidExportOption: a value that no export can have, or a mode and number of ranks that no instance can.
        ValueError: an instance is unknown.
    """
    request = request or Request()
    request.check(geometry)
    rows = []
    known = PRICES if prices is None else {**PRICES, **prices}
    instances = [get_instance(each) if isinstance(each, str) else each for each in instances]
    for instance in instances:
        default = _default(geometry, request, instance)
        for mode, ranks in sorted(deployments(geometry, request, instance), key=_order):
            row = predict(
                geometry,
                request,
                instance,
                mode=mode,
                ranks=ranks,
                efficiency=efficiency,
                price=known.get(instance.name),
            )
            rows.append(replace(row, is_default=(mode, ranks) == default))
    if not rows:
        _refuse(geometry, request, instances)
    return rows


def _order(deployment: tuple[str | None, int]) -> tuple[int, int]:
    mode, ranks = deployment
    return (list(MODES).index(mode) if mode else -1, ranks)


def _default(geometry: Geometry, request: Request, instance: Instance) -> tuple[str | None, int]:
    """Mode and ranks of an export without flags for them."""
    asked = request.changed(parallel_mode=None, tensor_parallel_size=None)
    mode = choose_mode(asked, instance, geometry, request.tokens(geometry))
    return (mode.name, mode.ranks)


def _refuse(geometry: Geometry, request: Request, instances: list[Instance]) -> None:
    """Say why there is no row, for the largest of the instances.

    Raises:
        InvalidExportOption: always.
    """
    largest = max(instances, key=Instance.logical_cores)
    ranks = choose_mode(request, largest, geometry, request.tokens(geometry)).ranks
    raise InvalidExportOption(
        f"--parallel_mode {request.parallel_mode} has no meaning on {ranks} rank of {largest.name};"
        " change --tensor_parallel_size or --instance_type"
    )

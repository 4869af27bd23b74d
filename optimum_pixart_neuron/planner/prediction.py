"""One row of a plan for each valid mode and number of ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tqdm import tqdm

from ..components.component import Component, Per
from ..components.registry import COMPONENTS
from ..deployment.decisions import Configurations
from ..deployment.deployment import Deployment
from ..errors import InvalidExportOption
from ..hardware import INSTANCES, Instance, get_instance
from ..neuron.sdk import ensure_importable
from ..parallel.modes import MODES
from ..program.memory import MemoryNeed, core_bytes
from .component_plan import ComponentPlan
from .decoding import decide_decoding
from .prices import PRICES, Price
from .published import Efficiency, efficiency_of
from .released import Released
from .request import Request


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """What one deployment needs and, by prediction, does.

    Attributes:
        deployment: as the export decides it.
        components: in the order they run.
        steps: denoising steps.
        efficiency: by which times are expected.
        price: of the instance; None if it is not known.
        is_default: whether the export chooses it when no flag does.
        others: the same for the further programs of an export of several, in the order of `deployment.others`.
    """

    deployment: Deployment
    components: tuple[ComponentPlan, ...]
    steps: int
    efficiency: Efficiency
    price: Price | None
    is_default: bool = False
    others: tuple[PlanRow, ...] = ()

    @property
    def each(self) -> tuple[PlanRow, ...]:
        """This one and the others."""
        return (self, *self.others)

    @property
    def images(self) -> int:
        """Images that one pipeline makes at once."""
        return self.deployment.images * self.deployment.batches

    @property
    def mode(self) -> str:
        """The mode's name, or that there is none."""
        return self.deployment.parallel_mode or "one core"

    @property
    def layout(self) -> str:
        """Mode and ranks, for a sentence."""
        return f"{self.mode} on {self.deployment.ranks} ranks" if self.deployment.parallel_mode else self.mode

    def component(self, name: str) -> ComponentPlan:
        """One program, by its folder in the export."""
        return next(part for part in self.components if part.component.name == name)

    @property
    def needed_bytes(self) -> int:
        """Device memory of the fullest core, by the export's own check: all weights, the largest activations."""
        return core_bytes([self._need(part.component) for part in self.components])

    def _need(self, component: Component) -> MemoryNeed:
        """Programs of several ranks share the weights; each of one core has its own."""
        costs = [row.component(component.name).cost for row in self.each]
        alone = self.deployment.mode_of(component).split(component.plan) is None
        copies = len({component.size(row.deployment) for row in self.each}) if alone else 1
        return MemoryNeed(
            component=component.name,
            weights=costs[0].weights * copies,
            activations=max(cost.activations for cost in costs),
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
        return sum(part.cost.flops * part.core_runs for part in self.components) / self.images

    @property
    def bytes_sent_per_step(self) -> int:
        """Bytes one core sends in one denoising step."""
        return sum(part.cost.bytes_sent for part in self.components if part.component.per is Per.STEP)

    @property
    def lower_bound_s(self) -> float:
        """Seconds from the prompt to the images, at the hardware's peaks."""
        return sum(part.lower_bound_s for part in self.components)

    @property
    def bound_by(self) -> str:
        """The resource that bounds for the most of that time, of `roofline.Bound.resources`."""
        seconds: dict[str, float] = defaultdict(float)
        for part in self.components:
            seconds[part.bound.by] += part.lower_bound_s
        return max(seconds, key=lambda name: seconds[name])

    def expected_s_of(self, part: ComponentPlan) -> float:
        """Predicted seconds of all runs of one of the components."""
        return part.expected_s(self.efficiency.expected)

    @property
    def expected_s(self) -> float:
        """Predicted seconds from the prompt to the images."""
        return sum(map(self.expected_s_of, self.components))

    @property
    def expected_range_s(self) -> tuple[float, float]:
        """The same at both ends of the efficiency's band; equal where it has none."""
        ends = (self.efficiency.high, self.efficiency.low)
        low, high = (sum(part.expected_s(end) for part in self.components) for end in ends)
        return low, high

    @property
    def images_per_second(self) -> float:
        """Predicted, of the whole instance: pipelines side by side, each busy, none slowing another."""
        return self.deployment.replicas * self.images / self.expected_s

    @property
    def idle_cores(self) -> int:
        """Logical cores of the instance that are too few for another pipeline."""
        return self.deployment.instance.logical_cores() - self.deployment.replicas * self.deployment.cores

    @property
    def cost_per_1000(self) -> float | None:
        """Predicted US dollars for 1000 images on a busy instance; None without a price."""
        return None if self.price is None else self.price.per_hour / 3600 * 1000 / self.images_per_second


def predict(
    request: Request,
    instance: Instance | str,
    *,
    checkpoint: Configurations | None = None,
    efficiency: float | None = None,
    price: Price | None = None,
) -> PlanRow:
    """The deployment that an export with the request's options has.

    Args:
        instance: or its product name, or its family.
        checkpoint: None: the released one that is nearest to the size.
        efficiency: None: what is published, see `published.efficiency_of`.
        price: None: the known one, if there is one.

    Raises:
        InvalidExportOption: the export would refuse it, too.
        ValueError: the instance is unknown.
    """
    instance = get_instance(instance) if isinstance(instance, str) else instance
    checkpoint = checkpoint or Released.nearest(*request.first_size)
    ensure_importable()
    deployment, _ = decide_decoding(request, checkpoint, instance)
    return _row(deployment, request, checkpoint, efficiency, price or PRICES.get(instance.name))


def plan(
    request: Request | None = None,
    *,
    checkpoint: Configurations | None = None,
    instances: Iterable[Instance | str] = tuple(INSTANCES),
    efficiency: float | None = None,
    prices: Mapping[str, Price] | None = None,
) -> list[PlanRow]:
    """One row for each valid mode and number of ranks on each instance.

    Args:
        request: where it names a mode or a number of ranks, the rows are those.
        checkpoint: None: the released one that is nearest to the size.
        instances: or their product names, or families.
        efficiency: None: what is published, see `published.efficiency_of`.
        prices: by product name, instead of the known ones.

    Raises:
        InvalidExportOption: a value that no export can have, or a mode and number of ranks that no instance can.
        ValueError: an instance is unknown.
    """
    request = request or Request()
    checkpoint = checkpoint or Released.nearest(*request.first_size)
    known = PRICES if prices is None else {**PRICES, **prices}
    places = [get_instance(each) if isinstance(each, str) else each for each in instances]
    ensure_importable()
    own = request.changed(parallel_mode=None, tensor_parallel_size=None)
    defaults = {instance: decide_decoding(own, checkpoint, instance)[0] for instance in places}
    choices = [(instance, wanted) for instance in places for wanted in _choices(request, instance)]
    rows = []
    # Seconds for the released model, but minutes for every size of it on an instance of many cores.
    for instance, wanted in tqdm(choices, desc="planning", unit="choice", delay=2, leave=False, disable=None):
        try:
            deployment, _ = decide_decoding(wanted, checkpoint, instance)
        except InvalidExportOption:
            continue
        is_default = deployment == defaults[instance]
        rows.append(_row(deployment, request, checkpoint, efficiency, known.get(instance.name), is_default=is_default))
    if not rows:
        largest = max(places, key=lambda each: each.logical_cores())
        ranks = decide_decoding(request, checkpoint, largest)[0].ranks
        raise InvalidExportOption(
            f"--parallel_mode {request.parallel_mode} has no meaning on {ranks} rank of {largest.name};"
            " change --tensor_parallel_size or --instance_type"
        )
    return rows


def _choices(request: Request, instance: Instance) -> Iterator[Request]:
    """What the request does not exclude, possible or not: one core, then each mode by its ranks."""
    cores, asked = instance.logical_cores(), request.tensor_parallel_size
    counts = range(2, cores + 1) if asked is None else [asked] if asked > 1 else []
    modes = [request.parallel_mode] if request.parallel_mode else list(MODES)
    if request.parallel_mode is None and asked in (None, 1):
        yield request.changed(parallel_mode=None, tensor_parallel_size=1)
    for mode in modes:
        for ranks in counts:
            yield request.changed(parallel_mode=mode, tensor_parallel_size=ranks)


def _row(
    deployment: Deployment,
    request: Request,
    checkpoint: Configurations,
    efficiency: float | None,
    price: Price | None,
    *,
    is_default: bool = False,
) -> PlanRow:
    steps = request.num_inference_steps
    return PlanRow(
        deployment=deployment,
        components=tuple(
            ComponentPlan.of(component, checkpoint.config(component.part.name), deployment, steps)
            for component in COMPONENTS.values()
            if component.part.name in checkpoint.sources and component.is_exported(request)
        ),
        steps=steps,
        efficiency=efficiency_of(deployment.instance) if efficiency is None else Efficiency.of_one(efficiency),
        price=price,
        is_default=is_default,
        others=tuple(_row(each, request, checkpoint, efficiency, price) for each in deployment.others),
    )

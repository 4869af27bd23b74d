"""Several instances side by side, each with pipelines of its own: what `--replicas` adds to a plan.

Pipelines of different instances share nothing (`serving/`), so rates and prices add up, and the latency of an image
stays that of one pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ..terminal.table import figure
from .prediction import PlanRow


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Instances of one kind, each deployed as `row` says.

    Attributes:
        row: of one instance.
        instances: how many there are.
    """

    row: PlanRow
    instances: int

    @property
    def pipelines(self) -> int:
        """On all instances."""
        return self.instances * self.row.deployment.replicas

    @property
    def images_per_second(self) -> float:
        """Predicted, of all instances, each busy."""
        return self.instances * self.row.images_per_second

    @property
    def cost_per_hour(self) -> float | None:
        """US dollars of all instances; None without a price."""
        return None if self.row.price is None else self.instances * self.row.price.per_hour

    def describe(self) -> str:
        """A sentence."""
        cost = "no known price" if self.cost_per_hour is None else f"${self.cost_per_hour:,.2f}/h"
        return (
            f"{self.instances} x {self.row.deployment.instance.name}: {self.images_per_second:.3f} images/s, {cost};"
            f" {self.pipelines} pipelines ({self.row.layout}), {figure(self.row.expected_s)} s an image."
        )


def fleets(rows: Sequence[PlanRow], instances: int) -> list[Fleet]:
    """For each kind of instance the deployment of most images a second that fits; in the order of the rows."""
    fitting = [row for row in rows if row.fits]
    return [
        Fleet(row=max(group, key=lambda row: row.images_per_second), instances=instances)
        for _, group in groupby(fitting, key=lambda row: row.deployment.instance.name)
    ]

"""A plan as JSON: every figure of every row, in bytes, seconds, operations and US dollars."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..deployment.decisions import Configurations
from .component_plan import ComponentPlan
from .fleet import Fleet, fleets
from .prediction import PlanRow
from .published import PUBLISHED, SOURCE
from .request import Request
from .table import advice


def report(
    rows: list[PlanRow], checkpoint: Configurations, request: Request, instances: int | None = None
) -> dict[str, Any]:
    """Everything that JSON can hold of a plan, and of so many instances of each kind side by side; None for none."""
    deployment = rows[0].deployment
    return {
        "model": checkpoint.source,
        "request": {**request.model_dump(mode="json"), "height": deployment.height, "width": deployment.width},
        "advice": " ".join(advice(rows)),
        "published": {"source": SOURCE, "measurements": [asdict(each) for each in PUBLISHED]},
        "rows": [_row(row) for row in rows],
        "fleets": [_fleet(fleet) for fleet in fleets(rows, instances)] if instances else [],
    }


def _row(row: PlanRow) -> dict[str, Any]:
    deployment = row.deployment
    return {
        "instance": deployment.instance.name,
        "mode": deployment.parallel_mode,
        "ranks": deployment.ranks,
        "cores": deployment.cores,
        "exchange": deployment.mode.exchange,
        "is_default": row.is_default,
        "pipelines": deployment.replicas,
        "idle_cores": row.idle_cores,
        "images_at_once": row.images,
        "hbm_bytes": row.hbm_bytes,
        "needed_bytes": row.needed_bytes,
        "fits": row.fits,
        "flops_per_image": row.flops_per_image,
        "bytes_sent_per_step": row.bytes_sent_per_step,
        "lower_bound_s": row.lower_bound_s,
        "bound_by": row.bound_by,
        "efficiency": asdict(row.efficiency),
        "expected_s": row.expected_s,
        "expected_range_s": list(row.expected_range_s),
        "images_per_second": row.images_per_second,
        "price": None if row.price is None else asdict(row.price),
        "cost_per_1000": row.cost_per_1000,
        "components": {part.component.name: _component(row, part) for part in row.components},
        "programs": [_program(each) for each in row.each],
    }


def _program(row: PlanRow) -> dict[str, Any]:
    return {
        "height": row.deployment.height,
        "width": row.deployment.width,
        "guided": row.deployment.mode.guidance_groups == 2,
        "flops_per_image": row.flops_per_image,
        "lower_bound_s": row.lower_bound_s,
        "expected_s": row.expected_s,
        "images_per_second": row.images_per_second,
    }


def _fleet(fleet: Fleet) -> dict[str, Any]:
    deployment = fleet.row.deployment
    return {
        "instance": deployment.instance.name,
        "instances": fleet.instances,
        "mode": deployment.parallel_mode,
        "ranks": deployment.ranks,
        "pipelines": fleet.pipelines,
        "images_per_second": fleet.images_per_second,
        "cost_per_hour": fleet.cost_per_hour,
    }


def _component(row: PlanRow, part: ComponentPlan) -> dict[str, Any]:
    return {
        "weight_bytes": part.cost.weights,
        "activation_bytes": part.cost.activations,
        "runs": part.runs,
        "flops_per_run_and_core": part.cost.flops,
        "bytes_sent_per_run": part.cost.bytes_sent,
        "bound_s_per_run": part.bound.resources,
        "lower_bound_s": part.lower_bound_s,
        "expected_s": row.expected_s_of(part),
    }

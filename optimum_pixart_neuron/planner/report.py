"""A plan as JSON: every figure of every row, in bytes, seconds, operations and US dollars."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .geometry import Geometry
from .predict import PlanRow
from .published import PUBLISHED, SOURCE, Published
from .request import Request
from .table import advice


def report(rows: list[PlanRow], geometry: Geometry, request: Request) -> dict[str, Any]:
    """Everything that JSON can hold of a plan."""
    height, width = request.size(geometry)
    return {
        "model": geometry.name,
        "request": {**request.recorded(), "height": height, "width": width},
        "efficiency": rows[0].efficiency,
        "advice": advice(rows),
        "published": {"source": SOURCE, "measurements": [_published(each) for each in PUBLISHED]},
        "rows": [_row(row) for row in rows],
    }


def _published(each: Published) -> dict[str, Any]:
    return {
        **asdict(each),
        "lower_bound_s": each.lower_bound_s,
        "predicted_s": each.predicted_s,
        "error": each.error,
    }


def _row(row: PlanRow) -> dict[str, Any]:
    deployment = row.deployment
    return {
        "instance": deployment.instance.name,
        "mode": deployment.mode,
        "ranks": deployment.ranks,
        "cores": deployment.cores,
        "exchange": deployment.exchange,
        "is_default": row.is_default,
        "pipelines": deployment.replicas,
        "images_at_once": row.images,
        "hbm_bytes": row.hbm_bytes,
        "needed_bytes": row.needed_bytes,
        "fits": row.fits,
        "flops_per_image": row.flops_per_image,
        "bytes_sent_per_step": row.bytes_sent_per_step,
        "lower_bound_s": row.lower_bound_s,
        "bound_by": row.bound_by,
        "expected_s": row.expected_s,
        "images_per_second": row.images_per_second,
        "price": None if row.price is None else asdict(row.price),
        "cost_per_1000": row.cost_per_1000,
        "components": {
            part.component: {
                "weight_bytes": part.footprint.weights,
                "activation_bytes": part.footprint.activations,
                "runs": part.runs,
                "flops_per_run_and_core": part.work.flops,
                "bytes_sent_per_run": part.bytes_sent,
                "bound_s_per_run": part.bound.resources,
                "lower_bound_s": part.lower_bound_s,
                "expected_s": part.expected_s(row.efficiency),
            }
            for part in row.components
        },
    }

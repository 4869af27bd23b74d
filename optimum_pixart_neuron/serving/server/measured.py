"""The server's figures for Prometheus; counted where the requests come in, over all replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_TOGETHER = (1, 2, 4, 8, 16, 32, 64)


class Measured:
    """Counters and their text form; each server has its own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def metric(kind: Callable[..., Any], name: str, text: str, *labels: str, **more: Any) -> Any:
            return kind(f"pixart_{name}", text, ("model", *labels), registry=self._registry, **more)

        runs = "Runs of the transformer for these images; one run serves all images of a batch"
        together = "Images that were drawn together, seen from each of them"
        self._requests = metric(Counter, "requests", "Requests for images, by answer", "status")
        self._images = metric(Counter, "images", "Images drawn")
        self._runs = metric(Counter, "denoising_steps", runs)
        self._seconds = metric(Histogram, "request_seconds", "Time from request to last image", buckets=_SECONDS)
        self._together = metric(Histogram, "batch_images", together, buckets=_TOGETHER)
        self._open = metric(Gauge, "open_requests", "Requests drawn or waiting")

    def opened(self, model: str, change: int) -> None:
        """A request came in (1) or was answered (-1)."""
        self._open.labels(model).inc(change)

    def answered(self, model: str, status: int, seconds: float | None = None) -> None:
        """A request was answered; `seconds` where it got its images."""
        self._requests.labels(model, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(model).observe(seconds)

    def drawn(self, model: str, steps: int, together: int) -> None:
        """An image is there."""
        self._images.labels(model).inc()
        self._runs.labels(model).inc(steps / together)
        self._together.labels(model).observe(together)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

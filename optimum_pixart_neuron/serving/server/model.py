"""One export behind the server: what it draws, who draws it, and how many requests it has."""

from __future__ import annotations

import time
from typing import Any

from ..exported import Exported
from .asked import size_name
from .messages import Engine
from .refusal import Refusal


class Model:
    """Attributes:
    exported: what can be asked for; its name is the one that requests use.
    engine: draws.
    open: requests that are drawn or wait.
    answered: whether the engine ever said how it is; before, it is starting.
    """

    def __init__(self, exported: Exported, engine: Engine) -> None:
        self.exported = exported
        self.engine = engine
        self.open = 0
        self.answered = False
        self._since = int(time.time())

    def enter(self, most: int, retry_after: int) -> None:
        """Let one request in, and `leave` must follow; a Refusal with 429 where `most` are here already."""
        if self.open >= most:
            message = f"{self.exported.name} has {most} requests already; try again later"
            raise Refusal(429, message, code="rate_limit_exceeded", retry_after=retry_after)
        self.open += 1

    def leave(self) -> None:
        """The request is answered."""
        self.open -= 1

    @property
    def described(self) -> dict[str, Any]:
        """As `GET /v1/models` lists it: OpenAI's fields, and what a request may ask for."""
        return {
            "id": self.exported.name,
            "object": "model",
            "created": self._since,
            "owned_by": "optimum-pixart-neuron",
            "sizes": [size_name(size) for size in self.exported.sizes],
            "batch": self.exported.batch,
            "num_inference_steps": self.exported.steps,
            "guidance_scale": self.exported.guidance_scale,
            "guidance_interval": self.exported.takes_interval,
            "revision": self.exported.made,
        }

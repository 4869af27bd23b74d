"""A pipeline that paints at once, called as the real one: for tests of what is around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from optimum_pixart_neuron.errors import ProgramInputError
from optimum_pixart_neuron.serving.exported import Exported
from optimum_pixart_neuron.serving.picture import Kind, Picture

SIZE = (32, 64)
"""Height and width: unlike, so that one in place of the other shows."""


def exported(**changes: Any) -> Exported:
    """What the painter paints."""
    facts = {"name": "painter", "address": "/painter", "revision": None, "made": "0123456789abcdef"}
    facts |= {"sizes": (SIZE,), "batch": 4, "cores": 2, "guided": True}
    return Exported(**{**facts, **changes})


def picture(prompt: str = "a cat", *, seed: int = 0, steps: int = 3, guidance_scale: float = 4.5) -> Picture:
    return Picture(prompt=prompt, negative_prompt="", seed=seed, kind=Kind(*SIZE, steps, guidance_scale))


class Painter:
    """Paints noise that prompt and seed decide.

    Attributes:
        batches: the prompts of each call, in order.
        drawn: the prompts of the calls that ended in pictures.
        intervals: of guidance, of each call; "all" where the call names none.
        steps: denoising steps that were run, of all calls.
        gate: calls wait here; open unless a test closes it.
        on_step: called with the number of steps done, before the caller's callback.
    """

    def __init__(self, step_s: float = 0.0) -> None:
        self.batches: list[list[str]] = []
        self.drawn: list[str] = []
        self.intervals: list[Any] = []
        self.steps = 0
        self.gate = threading.Event()
        self.gate.set()
        self.on_step: Callable[[int], None] = lambda done: None
        self._step_s = step_s

    def set_progress_bar_config(self, **_: Any) -> None:
        pass

    def __call__(self, *, prompt, negative_prompt, generator, height, width, num_inference_steps, **call):
        self.batches.append(prompt)
        self.intervals.append(call.get("guidance_interval", "all"))
        assert self.gate.wait(30)
        if "refuse" in prompt:
            raise ProgramInputError("prompt: this one is refused")
        if "break" in prompt:
            raise RuntimeError("the device failed")
        for index in range(num_inference_steps):
            time.sleep(self._step_s)
            self.steps += 1
            self.on_step(index + 1)
            call["callback"](index, None, None)
        self.drawn += prompt
        return type(
            "Output",
            (),
            {"images": [self.paint(p, n, g, height, width) for p, n, g in zip(prompt, negative_prompt, generator)]},
        )

    @staticmethod
    def paint(prompt: str, negative: str, generator: Any, height: int, width: int) -> Image.Image:
        seed = [
            generator.initial_seed(),
            *prompt.encode("utf-8", "surrogatepass"),
            0,
            *negative.encode("utf-8", "surrogatepass"),
        ]
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

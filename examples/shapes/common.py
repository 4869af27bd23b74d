"""What the training scripts share: seeds, averaged weights, learning rates, pictures as tensors, the results file."""

import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE.parents[1] / "optimum_pixart_neuron" / "demo" / "checkpoint"
RESULTS = HERE / "results.json"


def set_seed(seed: int) -> random.Random:
    torch.manual_seed(seed)
    return random.Random(seed)


def to_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """uint8 (H, W, 3) pictures -> float (B, 3, H, W) in [-1, 1], laid out channels last as suits CPUs."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return (batch.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a half cosine down to 2% of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def trapezoid_rate(step: int, steps: int, peak: float, warmup: int, decay: float = 0.25) -> float:
    """Linear warm-up, constant, then linear decay to zero over the last `decay` share of the steps.

    Until the decay starts the path does not depend on `steps`, so a run can be resumed with a later end.
    """
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))


class AveragedWeights:
    """Exponential moving average of parameters, fp32; the window grows with the steps taken, up to `decay`."""

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float):
        self.parameters, self.decay, self.steps = parameters, decay, 0
        self.average = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the live weights and the average; calling it twice restores both."""
        for parameter, average in zip(self.parameters, self.average):
            live = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(live)


class Record:
    """Collects a loss per step and writes a section of results.json together with the wall time."""

    def __init__(self, section: str):
        self.section, self.start, self.losses = section, time.time(), []

    def save(self, points: int = 200, **facts) -> None:
        """Write facts, wall time in minutes and the losses averaged down to about `points` values."""
        stride = max(1, len(self.losses) // points)
        curve = [float(np.mean(self.losses[i : i + stride])) for i in range(0, len(self.losses), stride)]
        minutes = round((time.time() - self.start) / 60, 1)
        update_results(self.section, {**facts, "minutes": minutes, "loss_every": stride, "loss": _rounded(curve)})


def update_results(section: str, content: dict) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[section] = content
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def _rounded(values: list[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]

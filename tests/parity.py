"""How two results are compared."""

import math

import numpy as np
import torch


def relative_error(result: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute value of the reference."""
    return ((result.double() - reference.double()).abs().max() / reference.double().abs().max()).item()


def psnr(result: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; infinite for equal ones."""
    error = float(np.mean((np.asarray(result, dtype=np.float64) - np.asarray(reference, dtype=np.float64)) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)

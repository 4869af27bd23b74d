"""One loaded pipeline in several threads, with the emulator's ranks behind it.

What a call does about threads, copies and forks is tested on stand-ins in `tests/runtime/test_threads.py`; what ranks
do, in `tests/emulator/test_processes.py`.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from .conftest import load_ours

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

FOLDER = Path(__file__).parents[1] / "fixtures" / "export_5d0abc2"
THREADS = 4


def test_threads_draw_what_each_draws_alone():
    pipe = load_ours(FOLDER)

    def draw(number: int) -> np.ndarray:
        call = {"num_inference_steps": 1 + number % 2, "generator": torch.Generator().manual_seed(number)}
        return pipe(f"{number} red foxes", output_type="np", **call).images[0]

    alone = [draw(number) for number in range(THREADS)]
    pipe.prompt_cache.clear()
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(draw, range(THREADS)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))

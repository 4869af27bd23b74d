"""One loaded pipeline in several threads, deep-copied, and forked: with the emulator's ranks behind it.

What a call does about each is tested on stand-ins in `tests/runtime/test_threads.py`.
"""

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from optimum_pixart_neuron.errors import DeviceError

from .conftest import load_ours

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

FOLDER = Path(__file__).parents[1] / "fixtures" / "export_5d0abc2"
THREADS = 4


def draw(pipe, number: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(number)
    steps = 1 + number % 2
    return pipe(f"{number} red foxes", num_inference_steps=steps, generator=generator, output_type="np").images[0]


@pytest.fixture(scope="module")
def pipe():
    return load_ours(FOLDER)


@pytest.fixture(scope="module")
def alone(pipe) -> list[np.ndarray]:
    return [draw(pipe, number) for number in range(THREADS)]


def test_threads_draw_what_each_draws_alone(pipe, alone):
    pipe.prompt_cache.clear()
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda number: draw(pipe, number), range(THREADS)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_deep_copy_draws_with_the_same_programs(pipe, alone):
    assert np.array_equal(draw(copy.deepcopy(pipe), 1), alone[1])


@pytest.mark.soak
def test_a_forked_process_is_told_to_load_its_own(pipe, alone):
    child = os.fork()
    if child == 0:
        try:
            draw(pipe, 1)
        except DeviceError:
            os._exit(0)
        except BaseException:
            os._exit(2)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert np.array_equal(draw(pipe, 1), alone[1])

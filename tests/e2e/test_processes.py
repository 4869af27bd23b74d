"""Rank processes seen from a pipeline: a dead one is an error at once, and none outlives what it was started for."""

import gc
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from optimum_pixart_neuron.emulator.launching import prepare_ranks

from ..parity import psnr
from ..processes import assert_all_end, descendants, parent_of
from .conftest import PROMPTS, assert_same_pictures, load_ours, load_stock, picture, soak

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

USER_SCRIPT = Path(__file__).with_name("user_script.py")


@pytest.fixture
def folder(exported):
    return exported(tensor_parallel_size=2, torch_dtype="float32")


@pytest.mark.parametrize("load", [soak(load_stock), load_ours])
def test_a_rank_killed_during_a_picture(folder, load):
    prepare_ranks()  # what starts them stays
    before = set(descendants(os.getpid()))
    pipe = load(folder)
    processes = set(descendants(os.getpid())) - before
    ranks = processes - {parent_of(each) for each in processes}
    assert len(ranks) == 6, "two of each component"
    victim = min(ranks)  # one of the transformer's: the host loads it first
    its_program = [each for each in ranks if parent_of(each) == parent_of(victim)]
    killed_at = []

    def kill(step, timestep, latents):
        if step == 1:
            os.kill(victim, signal.SIGKILL)
            killed_at.append(time.monotonic())

    with pytest.raises(RuntimeError, match="rank [01]"):
        picture(pipe, num_inference_steps=50, callback=kill)
    assert time.monotonic() - killed_at[0] < 10
    assert len(its_program) == 2
    assert_all_end(its_program, 5)
    del pipe
    sys.last_value = sys.last_traceback = None
    gc.collect()
    assert_all_end(processes, 5)


@pytest.mark.soak
def test_two_pipelines_in_one_process(folder, reference):
    first, second = load_stock(folder), load_ours(folder)

    def picture_by_second(step, timestep, latents):
        drawn.append(picture(second))

    drawn = []
    drawn.append(picture(first, callback=picture_by_second, callback_steps=2))
    del first
    gc.collect()
    drawn.append(picture(second))
    assert_same_pictures(drawn, [picture(reference)] * 4)


def test_threads_draw_what_each_draws_alone(folder):
    """What a call does about threads is in `tests/runtime/test_threads.py`; here ranks are behind it."""
    pipe = load_ours(folder)

    def draw(number: int) -> np.ndarray:
        call = {"num_inference_steps": 1 + number % 2, "generator": torch.Generator().manual_seed(number)}
        return pipe(f"{number} red foxes", output_type="np", **call).images[0]

    alone = [draw(number) for number in range(4)]
    pipe.prompt_cache.clear()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(4)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_an_unmodified_script(start, folder, tmp_path, reference):
    emulated = (sys.executable, "-m", "optimum_pixart_neuron.emulator", USER_SCRIPT)
    process = start(*emulated, "optimum.neuron", folder, tmp_path / "image.npy", PROMPTS[0])
    assert "loaded\n" in process.stdout, process.stderr.read()
    processes = descendants(process.pid)
    assert len(processes) >= 4
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert psnr(np.load(tmp_path / "image.npy")[0], picture(reference)) >= 55
    assert_all_end(processes, 5)

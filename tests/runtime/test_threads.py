"""One pipeline used from several threads: every picture is the one that the call draws when it is alone."""

import copy
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from optimum_pixart_neuron.errors import DeviceError

from .stand_in import TOKENIZER

THREADS = 8


def draw(pipe, number: int, **arguments) -> np.ndarray:
    call = {"num_inference_steps": 3 + number % 3, "guidance_scale": 2.0 + number, "output_type": "np", **arguments}
    return pipe(f"{number} red cats", generator=torch.Generator().manual_seed(number), **call).images[0]


@pytest.mark.seconds
@pytest.mark.parametrize(
    "geometry", [{}, {"ranks": 1, "copies": 2, "guided": False}, {"ours": False}], ids=["ranks", "copies", "stock"]
)
def test_eight_threads_draw_what_each_draws_alone(stand_in, geometry):
    pipe = stand_in(seconds=0.002, **geometry)
    alone = [draw(pipe, number) for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda number: draw(pipe, number), range(THREADS)))
    for number in range(THREADS):
        assert np.array_equal(alone[number], together[number]), f"call {number} drew another picture"
    assert all(program.most_at_once <= 1 for copies in pipe.stand_ins.values() for program in copies)


def test_a_call_from_a_callback_leaves_the_outer_one_alone(stand_in):
    pipe = stand_in()
    alone = draw(pipe, 0)
    inner = []

    def callback(step, timestep, latents):
        inner.append(draw(pipe, 1))

    assert np.array_equal(draw(pipe, 0, callback=callback), alone)
    assert all(np.array_equal(picture, draw(pipe, 1)) for picture in inner)


def test_a_callback_and_what_comes_after_see_the_schedulers_state(stand_in):
    """As with diffusers, where the pipeline's scheduler is the one that works."""
    pipe, seen = stand_in(), []
    draw(pipe, 0, callback=lambda step, timestep, latents: seen.append(int(pipe.scheduler.step_index)))
    assert seen == [1, 2, 3]
    assert len(pipe.scheduler.timesteps) == 3


def test_a_scheduler_with_a_method_of_its_own_is_taken_in_turns(stand_in):
    """A method that somebody put on the instance is bound to it: a copy would call back into the original."""
    pipe = stand_in(seconds=0.001)
    original, steps = pipe.scheduler.step, []

    def step(*args, **kwargs):
        steps.append(threading.get_ident())
        return original(*args, **kwargs)

    pipe.scheduler.step = step
    alone = [draw(pipe, number) for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda number: draw(pipe, number), range(3)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together))
    assert len(steps) == 2 * (3 + 4 + 5)


def test_a_deep_copy_draws_with_the_same_programs(stand_in):
    pipe = stand_in()
    other = copy.deepcopy(pipe)
    assert other.scheduler is not pipe.scheduler
    assert np.array_equal(draw(other, 2), draw(pipe, 2))


def test_a_loaded_pipeline_is_not_pickled(stand_in):
    with pytest.raises(DeviceError, match="a loaded program stays in its process; .* from_pretrained"):
        pickle.dumps(stand_in())


def test_a_forked_process_is_told_to_load_its_own(stand_in):
    pipe, fork = stand_in(), multiprocessing.get_context("fork")
    answers, writing = fork.Pipe(duplex=False)

    def draw_elsewhere() -> None:
        try:
            draw(pipe, 0)
        except DeviceError as error:
            writing.send(str(error))

    child = fork.Process(target=draw_elsewhere)
    child.start()
    child.join()
    assert answers.poll() and answers.recv() == (
        f"this pipeline was loaded in process {os.getpid()}, and this is process {child.pid}; load it in the process"
        " that uses it"
    )
    assert draw(pipe, 0).shape == (256, 256, 3)


@pytest.mark.seconds
def test_a_fast_tokenizer(stand_in):
    """The tokenizers library refuses a second thread: "Already borrowed"."""
    from transformers import T5TokenizerFast

    pipe = stand_in()
    pipe.tokenizer = T5TokenizerFast.from_pretrained(TOKENIZER)
    prompts = [f"{number} red cats and as many dogs, of which none is blue" for number in range(200)]
    alone = [pipe.encode_prompt(prompt)[0] for prompt in prompts]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda prompt: pipe.encode_prompt(prompt)[0], prompts))
    assert all(torch.equal(one, other) for one, other in zip(alone, together))

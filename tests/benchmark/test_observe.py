"""Where the clocks sit: on the innermost programs, so that what our classes add around them is the host's."""

import time
from types import SimpleNamespace

import pytest
import torch

from optimum_pixart_neuron.benchmark.observe import observed
from optimum_pixart_neuron.benchmark.report import REST, Sample
from optimum_pixart_neuron.benchmark.spans import Recorder, Span
from optimum_pixart_neuron.components.vae.tiling import TiledDecoder
from optimum_pixart_neuron.runtime.batching import BatchedProgram, ProgramInput

PAUSE_S = 0.02


class Scheduler:
    def set_timesteps(self):
        pass

    def scale_model_input(self, latents):
        return latents

    def step(self, latents):
        time.sleep(PAUSE_S)
        return latents


class Pipeline:
    """The parts that a loaded pipeline has, with programs that take a known time."""

    def __init__(self, decoder, copies=1):
        spec = ProgramInput(name="ids", shape=(1, 4), dtype=torch.int64)
        self.text_encoder = SimpleNamespace(model=BatchedProgram([slow] * copies, [spec]))
        self.transformer = SimpleNamespace(model=slow)
        self.vae_decoder = SimpleNamespace(model=decoder)
        self.scheduler = Scheduler()
        self.image_processor = SimpleNamespace(postprocess=lambda image: image)

    def encode_prompt(self, rows):
        time.sleep(PAUSE_S)
        return self.text_encoder.model(torch.zeros(rows, 4, dtype=torch.int64))

    def __call__(self, rows=1):
        begin = time.perf_counter()
        self.encode_prompt(rows)
        for _ in range(3):
            self.scheduler.step(self.transformer.model(torch.zeros(1)))
        self.vae_decoder.model(torch.zeros(1, 4, 8, 8))
        return Span(begin, time.perf_counter())


def slow(tensor):
    time.sleep(PAUSE_S)
    return tensor


def decode(tiles):
    time.sleep(PAUSE_S)
    return {"sample": tiles.new_zeros(len(tiles), 3, 32, 32)}


def measured(pipeline: Pipeline, **call) -> Sample:
    recorder = Recorder()
    with observed(pipeline, recorder):
        return Sample.of(pipeline(**call), recorder)


def test_programs_and_host_add_up():
    sample = measured(Pipeline(decode))
    counts = {name: len(calls) for name, calls in sample.calls.items()}
    assert counts == {"text_encoder": 1, "transformer": 3, "vae_decoder": 1}
    assert sum(sample.components.values()) + sample.host_seconds == pytest.approx(sample.end_to_end)
    assert PAUSE_S <= sample.host["prompt"] < sample.end_to_end - 5 * PAUSE_S, "the text encoder is not the host's"
    assert sample.host["scheduler"] >= 3 * PAUSE_S
    assert 0 <= sample.host[REST] < 3 * PAUSE_S


def test_copies_that_run_together_cover_their_time_once():
    sample = measured(Pipeline(decode, copies=4), rows=4)
    assert len(sample.calls["text_encoder"]) == 4
    assert sum(sample.calls["text_encoder"]) >= 4 * PAUSE_S
    assert sample.components["text_encoder"] < sum(sample.calls["text_encoder"]) - PAUSE_S


@pytest.mark.parametrize("batched", [False, True])
def test_cutting_and_blending_tiles_is_the_hosts(batched):
    program = decode
    if batched:
        program = BatchedProgram([decode], [ProgramInput(name="l", shape=(1, 4, 4, 4), dtype=torch.float32)])
    sample = measured(Pipeline(TiledDecoder(program, [(4, 4)], 8)))
    assert len(sample.calls["vae_decoder"]) == (9 if batched else 1)


def test_everything_is_as_before_afterwards():
    pipeline = Pipeline(TiledDecoder(decode, [(4, 4)], 8))
    before = [dict(vars(each)) for each in places(pipeline)]
    with pytest.raises(KeyboardInterrupt), observed(pipeline, Recorder()):
        assert [dict(vars(each)) for each in places(pipeline)] != before
        raise KeyboardInterrupt
    assert [dict(vars(each)) for each in places(pipeline)] == before


def places(pipeline: Pipeline) -> list:
    parts = [getattr(pipeline, name) for name in ("text_encoder", "transformer", "vae_decoder")]
    inner = [pipeline.text_encoder.model, pipeline.vae_decoder.model]
    return [pipeline, pipeline.scheduler, pipeline.image_processor, *parts, *inner]

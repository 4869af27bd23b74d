"""What the pipeline offers beside its call, on programs that are stand-ins."""

import inspect
import threading

import numpy as np
import pytest
import torch
from diffusers import PixArtSigmaPipeline

from optimum_pixart_neuron.errors import PixArtNeuronError, ProgramInputError
from optimum_pixart_neuron.export.options import ExportOptions

from .stand_in import draw


def test_no_negative_prompt_is_what_diffusers_makes_of_it(stand_in):
    pipe = stand_in()
    diffusers_own = PixArtSigmaPipeline.__call__(
        pipe,
        "a red cat",
        negative_prompt=None,
        num_inference_steps=2,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
        max_sequence_length=20,
    ).images
    assert np.array_equal(draw(pipe, negative_prompt=None), diffusers_own)
    assert np.array_equal(draw(pipe, negative_prompt="none"), diffusers_own)
    assert not np.array_equal(draw(pipe, negative_prompt=""), diffusers_own)


def test_output_types_callback_and_progress_bar(stand_in, capsys):
    pipe, seen = stand_in(), []
    pipe.set_progress_bar_config(disable=False)
    asked = {"num_inference_steps": 2, "output_type": "latent"}
    latents = pipe(["a", "b"], **asked, callback=lambda step, _, latents: seen.append((step, latents.shape))).images
    assert (latents.shape, latents.dtype) == ((2, 4, 32, 32), torch.float32)
    assert seen == [(0, latents.shape), (1, latents.shape)]
    assert "2/2" in capsys.readouterr().err
    assert pipe("a tower", num_inference_steps=1).images[0].size == (256, 256)


def test_to_returns_the_pipeline(stand_in):
    pipe = stand_in()
    assert pipe.to("xla") is pipe and pipe.to(torch.bfloat16) is pipe


def test_encoding_images_needs_the_encoder(stand_in):
    with pytest.raises(ProgramInputError, match="the VAE encoder is not compiled.*export with --with_vae_encoder"):
        stand_in().vae.encode(torch.zeros(1, 3, 256, 256))


def test_replacing_weights_is_refused(stand_in):
    with pytest.raises(PixArtNeuronError, match="give load_transformer the changed model"):
        stand_in().replace_weights({"transformer": {}})


def test_prompts_are_encoded_at_the_compiled_length(stand_in):
    pipe = stand_in(tokens=12)
    embeddings, mask, negative, negative_mask = pipe.encode_prompt("a red cat", num_images_per_prompt=2)
    assert embeddings.shape == negative.shape == (2, 12, 16)
    assert mask.shape == negative_mask.shape == (2, 12)
    with pytest.raises(ProgramInputError, match="max_sequence_length: expected 12, given 300; export with"):
        pipe.encode_prompt("a red cat", max_sequence_length=300)
    with pytest.raises(ProgramInputError, match="clean_captions: no argument of .*; did you mean clean_caption?"):
        pipe.encode_prompt("a red cat", clean_captions=True)


def test_steps_do_nothing_twice_that_the_call_does_once(stand_in, monkeypatch):
    """What grows with the batch or the copies is done once a call: embeddings are cut, and threads are there."""
    from optimum_pixart_neuron.runtime.batching import BatchedProgram

    cut, started = [], []
    own_cut, own_start = BatchedProgram._cut, threading.Thread.start
    monkeypatch.setattr(
        BatchedProgram, "_cut", lambda self, spec, *rest: cut.append(spec.name) or own_cut(self, spec, *rest)
    )
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self) or own_start(self))
    pipe = stand_in(ranks=1, copies=3, guided=False)
    for _ in range(2):
        cut.clear()
        draw(pipe, ["a", "b", "c"], num_inference_steps=12)
        once = ("encoder_hidden_states", "encoder_attention_mask")
        assert {name: cut.count(name) for name in once} == dict.fromkeys(once, 1)
        assert cut.count("hidden_states") == cut.count("timestep") == 12
    # As many as there are copies of the three programs, for as long as the pipeline lives.
    assert len(started) <= 3 * 3
    assert sum(len(program.rows) for program in pipe.stand_ins["transformer"]) == 2 * 12 * 6


class TestWhatAnEditorShows:
    """Arguments, a line about the pipeline, and the class among the package's names."""

    def test_the_call(self, stand_in):
        shown = inspect.signature(stand_in()).parameters
        diffusers_own = dict(inspect.signature(PixArtSigmaPipeline.__call__).parameters)
        del diffusers_own["self"], diffusers_own["kwargs"]
        assert {name: each for name, each in shown.items() if name != "guidance_interval"} == diffusers_own
        assert "prompt" in inspect.signature(stand_in().encode_prompt).parameters

    def test_from_pretrained(self, stand_in):
        pipeline_class = type(stand_in())
        shown = inspect.signature(pipeline_class.from_pretrained).parameters
        assert list(shown)[:4] == ["model_id", "export", "verify", "scheduler"]
        assert {"prompt_cache", "revision", "token", *ExportOptions.model_fields} - {"model"} <= set(shown)
        assert shown["height"].default is None and shown["batch_size"].default == 1
        assert pipeline_class.from_pretrained.__doc__.startswith("Load a compiled pipeline")

    @pytest.mark.parametrize(
        ("geometry", "expected"),
        [
            ({}, "256 x 256 px, batch 1 x 1, context mode, 2 rank(s), trn1, emulated"),
            (
                {"side": 64, "batch": 3, "ranks": 4},
                "512 x 512 px, batch 3 x 1, context mode, 4 rank(s), trn1, emulated",
            ),
            ({"ours": False}, "256 x 256 px, batch 1 x 1, 2 rank(s), trn1, emulated"),
        ],
    )
    def test_repr(self, stand_in, geometry, expected):
        pipe = stand_in(**geometry)
        assert repr(pipe) == f"NeuronPixArtSigmaPipeline({expected}; {pipe.model_save_dir})"

    def test_the_package(self):
        import optimum_pixart_neuron

        assert {"NeuronPixArtSigmaPipeline", "register", "__doc__"} <= set(dir(optimum_pixart_neuron))

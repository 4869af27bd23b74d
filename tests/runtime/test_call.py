"""Calls held against compiled shapes: every refusal names the input, what is expected and what was given.

No program runs here; `test_several_programs.py` shows that none runs before a refusal.
"""

import threading
from dataclasses import replace

import diffusers
import pytest
import torch

from optimum_pixart_neuron.deployment.sides import Sides
from optimum_pixart_neuron.errors import ProgramInputError
from optimum_pixart_neuron.runtime.batching import BatchedProgram, ProgramInput
from optimum_pixart_neuron.runtime.call import CompiledCall
from optimum_pixart_neuron.runtime.sizes import CompiledSizes

from ..refusals import refusal

TOKENS, WIDTH = 20, 6
EMBEDDINGS = torch.randn(2, TOKENS, WIDTH)
MASK = torch.ones(2, TOKENS, dtype=torch.int64)
LATENTS = torch.randn(2, 4, 8, 8)
GENERATOR = torch.Generator()
TWO = ["a", "b"]


def program_input(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> ProgramInput:
    return ProgramInput(name=name, shape=shape, dtype=dtype)


COMPILED = CompiledCall(
    drawn=CompiledSizes(
        ((64, 64),), {"0.5": [32.0, 64.0], "1.0": [64.0, 64.0]}, Sides(cell=8, smallest=32, largest=128)
    ),
    embeddings=program_input("encoder_hidden_states", 2, TOKENS, WIDTH),
    mask=program_input("encoder_attention_mask", 2, TOKENS, dtype=torch.int64),
    latents=program_input("hidden_states", 2, 4, 8, 8),
)
HOSTS = replace(COMPILED, prompts=1, images=2)  # an export of optimum-neuron's own, which runs one batch


WHOLE = "expected a whole number from 1 on, given"
UNKNOWN = f"no argument of diffusers {diffusers.__version__}'s PixArtSigmaPipeline"
PROMPT = "expected a string or a list of strings, or prompt_embeds, given"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, f"prompt: {PROMPT} None"),
        ({"prompt": ("a", "b")}, f"prompt: {PROMPT} ('a', 'b')"),
        ({"prompt": []}, f"prompt: {PROMPT} []"),
        ({"prompt": ["a", None]}, "prompt[1]: expected a string, given None"),
        (
            {"prompt": TWO, "negative_prompt": ["x"]},
            "negative_prompt: expected a string, a list of 2, one for each prompt, or negative_prompt_embeds, given a"
            " list of 1",
        ),
        ({"prompt": TWO, "negative_prompt": ["x", 3]}, "negative_prompt[1]: expected a string, given 3"),
        ({"prompt": TWO, "negative_prompt": None}, "or negative_prompt_embeds, given None"),
        (
            {"prompt": TWO, "generator": [GENERATOR]},
            "generator: expected a torch.Generator or a list of 2, one for each image, given a list of 1",
        ),
        ({"prompt": TWO, "latents": LATENTS[:1]}, "latents: expected (2, 4, 8, 8), given (1, 4, 8, 8)"),
        (
            {"prompt": TWO, "latents": LATENTS[..., :4]},
            "latents: expected (2, 4, 8, 8), given (2, 4, 8, 4); export with --height 64 --width 32",
        ),
        ({"prompt": TWO, "latents": LATENTS.numpy()}, "latents: expected a torch.Tensor, given ndarray"),
        ({"prompt": TWO, "latents": LATENTS.long()}, "latents: expected torch.float32, given torch.int64"),
    ],
)
def test_refused(arguments, message):
    assert message in refusal(ProgramInputError, COMPILED.fit, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"negative_prompt": ["x", "y"]}, "given a list of 2"),
        ({"negative_prompt": None, "clean_caption": False}, "or negative_prompt_embeds, given None"),
        ({"guidence_scale": 2.0}, f"guidence_scale: {UNKNOWN}; did you mean guidance_scale?"),
        ({"seed": 3}, f"seed: {UNKNOWN}; did you mean generator=torch.Generator().manual_seed(…)?"),
        ({"callback_on_step_end": print}, f"callback_on_step_end: {UNKNOWN}; did you mean callback?"),
        ({"ip_adapter_image": 1, "step": 9}, f"ip_adapter_image: {UNKNOWN}; step: {UNKNOWN}"),
        ({"height": "64"}, f"height: {WHOLE} '64'"),
        ({"width": 64.0}, f"width: {WHOLE} 64.0"),
        ({"height": -8}, f"height: {WHOLE} -8"),
        ({"num_images_per_prompt": 0}, f"num_images_per_prompt: {WHOLE} 0"),
        ({"num_images_per_prompt": None}, f"num_images_per_prompt: {WHOLE} None"),
        ({"num_images_per_prompt": 1.5}, f"num_images_per_prompt: {WHOLE} 1.5"),
        ({"num_inference_steps": 0}, f"num_inference_steps: {WHOLE} 0"),
        ({"num_inference_steps": 2.5}, f"num_inference_steps: {WHOLE} 2.5"),
        ({"timesteps": []}, "timesteps: expected at least one, given none"),
        ({"sigmas": []}, "sigmas: expected at least one, given none"),
        ({"timesteps": 400}, "timesteps: expected a list of numbers, given 400"),
        ({"timesteps": ["400"]}, "timesteps: expected a list of numbers, given ['400']"),
        ({"sigmas": iter([2.0])}, "sigmas: expected a list of numbers, given <list_iterator"),
        ({"timesteps": torch.tensor([1, 900])}, "expected numbers that fall from step to step, given [1, 900]"),
        ({"width": True}, f"width: {WHOLE} True"),
        ({"guidance_scale": None}, "guidance_scale: expected a finite number, given None"),
        ({"guidance_scale": "4"}, "guidance_scale: expected a finite number, given '4'"),
        ({"guidance_scale": float("nan")}, "guidance_scale: expected a finite number, given nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale: expected a finite number, given inf"),
        ({"guidance_scale": torch.tensor(1j)}, "guidance_scale: expected a finite number, given tensor"),
        ({"guidance_scale": torch.ones(2)}, "guidance_scale: expected a finite number, given tensor"),
        ({"callback": 3}, "callback: expected a function, given 3"),
        ({"max_sequence_length": 300}, "expected 20, given 300; export with --sequence_length 300"),
        ({"max_sequence_length": "20"}, f"max_sequence_length: {WHOLE} '20'"),
        (
            {"height": 34},
            "34 x 64 px (height x width) is made at 32 x 64 px, compiled is 64 x 64 px; export with --height",
        ),
        (
            {"height": 72, "use_resolution_binning": False},
            "72 x 64 px (height x width): compiled for 64 x 64 px; export with --height 72",
        ),
        ({"num_images_per_prompt": 3, "generator": [GENERATOR] * 2}, "a list of 3, one for each image"),
        ({"generator": (GENERATOR,)}, "one for each image, given tuple"),
        ({"generator": 7}, "one for each image, given int"),
        ({"generator": [7]}, "generator[0]: expected a torch.Generator, given int"),
        ({"latents": LATENTS}, "latents: expected (1, 4, 8, 8), given (2, 4, 8, 8)"),
        ({"latents": LATENTS[0]}, "latents: expected (1, 4, 8, 8), given (4, 8, 8)"),
    ],
)
def test_refused_beside_one_prompt(arguments, message):
    assert message in refusal(ProgramInputError, COMPILED.fit, "a", **arguments)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize(
    ("embeddings", "mask", "message"),
    [
        (EMBEDDINGS[0], MASK, "prompt_embeds: expected ({rows}, 20, 6), given (20, 6)"),
        (EMBEDDINGS[..., :3], MASK, "prompt_embeds: expected ({rows}, 20, 6), given (2, 20, 3)"),
        (
            EMBEDDINGS[:, :12],
            MASK,
            "prompt_embeds: expected ({rows}, 20, 6), given (2, 12, 6); pad them to 20 tokens and mask those, or"
            " export with --sequence_length 12",
        ),
        (EMBEDDINGS[:0], MASK, "prompt_embeds: expected ({rows}, 20, 6), given (0, 20, 6)"),
        (EMBEDDINGS.tolist(), MASK, "prompt_embeds: expected a torch.Tensor, given list"),
        (EMBEDDINGS.long(), MASK, "prompt_embeds: expected torch.float32, given torch.int64"),
        (EMBEDDINGS.to(torch.complex64), MASK, "prompt_embeds: expected torch.float32, given torch.complex64"),
        (EMBEDDINGS, MASK[:, :12], "prompt_attention_mask: expected (2, 20), given (2, 12)"),
        (EMBEDDINGS, MASK[:1], "prompt_attention_mask: expected (2, 20), given (1, 20)"),
        (EMBEDDINGS, MASK[:, None], "prompt_attention_mask: expected (2, 20), given (2, 1, 20)"),
        (EMBEDDINGS, MASK.tolist(), "prompt_attention_mask: expected a torch.Tensor, given list"),
        (
            EMBEDDINGS,
            MASK * 0.5,
            "prompt_attention_mask: expected 1 for text and 0 for padding, given values from 0.5",
        ),
        (EMBEDDINGS, (MASK.triu() - 1) * 10_000, "given values from -10000 to 0"),
        (EMBEDDINGS, MASK * float("nan"), "expected 1 for text and 0 for padding, given values from nan"),
        (EMBEDDINGS, MASK.to(torch.complex64), "prompt_attention_mask: expected torch.int64, given torch.complex64"),
    ],
)
def test_refused_embeddings(negative, embeddings, mask, message):
    pair = {"prompt_embeds": embeddings, "prompt_attention_mask": mask}
    if negative:
        pair = {f"negative_{name}": value for name, value in pair.items()}
        pair |= {"prompt_embeds": EMBEDDINGS, "prompt_attention_mask": MASK, "negative_prompt": None}
        message = message.replace("prompt_", "negative_prompt_")
    assert message.format(rows=2 if negative else "any number") in refusal(ProgramInputError, COMPILED.fit, **pair)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": TWO}, "prompt: expected 1 prompt(s), given 2; export with --batch_size 2"),
        ({"prompt": "a"}, "num_images_per_prompt: expected 2, given 1; export with --num_images_per_prompt 1"),
        (
            {"prompt": "a", "num_images_per_prompt": 2, "guidance_scale": 1.0},
            "guidance_scale: expected more than 1, which two cores run as pairs, given 1.0",
        ),
    ],
)
def test_refused_of_an_export_that_runs_one_batch(arguments, message):
    assert message in refusal(ProgramInputError, HOSTS.fit, **arguments)
    assert HOSTS.fit("a", num_images_per_prompt=2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": ""},
        {"prompt": "word " * 400},
        {"prompt": TWO, "negative_prompt": ("x", "y"), "num_images_per_prompt": 3, "generator": [GENERATOR] * 6},
        {"prompt": "a", "negative_prompt": ["not", "used"], "guidance_scale": 1},
        {"prompt": "a", "negative_prompt": None},
        {"prompt": "a", "guidance_scale": torch.tensor(4.5), "generator": GENERATOR},
        {"prompt": "a", "timesteps": [999, torch.tensor(1)]},
        {"prompt": "a", "max_sequence_length": TOKENS, "output_type": "np", "callback": print, "eta": 0.5},
        {"prompt_embeds": EMBEDDINGS, "prompt_attention_mask": MASK},
    ],
)
def test_taken_as_they_are(arguments):
    fitted = COMPILED.fit(**arguments)
    assert {name: fitted[name] for name in arguments} == arguments
    expected = {"height": 64, "width": 64, "use_resolution_binning": False, "max_sequence_length": TOKENS}
    assert fitted == {**arguments, **expected}


ONE_STEP = replace(COMPILED, defaults={"num_inference_steps": 1, "timesteps": [400], "guidance_scale": 0.0})
AT_400 = {"num_inference_steps": 1, "timesteps": [400]}


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, {**AT_400, "guidance_scale": 0.0}),
        ({"guidance_scale": 2.0}, {**AT_400, "guidance_scale": 2.0}),
        ({"num_inference_steps": 1}, {**AT_400, "guidance_scale": 0.0}),
        ({"num_inference_steps": None, "timesteps": None, "sigmas": None}, {**AT_400, "guidance_scale": 0.0}),
        ({"num_inference_steps": 3}, {"num_inference_steps": 3, "guidance_scale": 0.0}),
        ({"timesteps": [900, 300]}, {"timesteps": [900, 300], "guidance_scale": 0.0}),
        ({"sigmas": [2.0]}, {"sigmas": [2.0], "guidance_scale": 0.0}),
    ],
    ids=str,
)
def test_what_a_call_names_goes_before_the_defaults_of_the_export(given, asked):
    fitted = ONE_STEP.fit("a", negative_prompt="b", **given)
    names = ("num_inference_steps", "timesteps", "sigmas", "guidance_scale")
    assert {name: fitted[name] for name in names if name in fitted} == asked


def test_positions_are_those_of_diffusers():
    fitted = COMPILED.fit("a", "b", 5, None, None, 1.5, 2, 60, 60)
    named = {"prompt": "a", "negative_prompt": "b", "num_inference_steps": 5, "guidance_scale": 1.5}
    assert {name: fitted[name] for name in named} == named
    assert (fitted["height"], fitted["width"], fitted["use_resolution_binning"]) == (60, 60, True)
    with pytest.raises(TypeError, match="multiple values for argument 'prompt'"):
        COMPILED.fit("a", prompt="b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": None}, f"{PROMPT} None"),
        ({"prompt": []}, f"{PROMPT} []"),
        ({"prompt": TWO, "negative_prompt": ["x"]}, "given a list of 1"),
        ({"prompt": TWO, "negative_prompt": None}, "or negative_prompt_embeds, given None"),
        ({"prompt": "a", "num_images_per_prompt": 0}, f"num_images_per_prompt: {WHOLE} 0"),
    ],
)
def test_encoding_alone_refuses_the_same(arguments, message):
    """diffusers cuts the embeddings of one negative prompt in halves for two prompts."""
    assert message in refusal(ProgramInputError, COMPILED.fit_prompt, **arguments)
    unguided = {"prompt": ("a", "b"), "do_classifier_free_guidance": False, "negative_prompt": ["x"]}
    assert COMPILED.fit_prompt(**unguided)["prompt"] == TWO


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_floats_are_given_the_compiled_dtype(dtype):
    given = {"prompt_embeds": EMBEDDINGS.to(dtype), "prompt_attention_mask": MASK, "latents": LATENTS.to(dtype)}
    fitted = COMPILED.fit(**given)
    for name in ("prompt_embeds", "latents"):
        assert fitted[name].dtype == torch.float32
        assert torch.equal(fitted[name], given[name].float())


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32, torch.bfloat16])
def test_masks_of_any_dtype_mean_the_same(dtype):
    fitted = COMPILED.fit(prompt_embeds=EMBEDDINGS, prompt_attention_mask=MASK.triu().to(dtype))
    assert fitted["prompt_attention_mask"].dtype == torch.int64
    assert torch.equal(fitted["prompt_attention_mask"], MASK.triu())


class TestBatchedProgram:
    """The border of a program, for whoever calls a component by itself."""

    PROGRAM = BatchedProgram([lambda x, y: x + y], [program_input("x", 2, 3), program_input("y", 2, 3)])

    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            ((torch.ones(4, 2), torch.ones(4, 3)), r"x: expected \(any number, 3\), given \(4, 2\)"),
            ((torch.ones(0, 3), torch.ones(0, 3)), r"x: expected \(any number, 3\), given \(0, 3\)"),
            ((torch.tensor(1.0), torch.ones(4, 3)), r"x: expected \(any number, 3\), given \(\)"),
            ((torch.ones(4, 3), torch.ones(2, 3)), r"y: expected \(4, 3\), given \(2, 3\)"),
            ((torch.ones(4, 3), torch.ones(4, 3).long()), "y: expected torch.float32, given torch.int64"),
        ],
    )
    def test_refused(self, tensors, message):
        with pytest.raises(ProgramInputError, match=message):
            self.PROGRAM(*tensors)

    def test_any_number_of_rows(self):
        for rows in (1, 2, 5):
            x, y = torch.randn(rows, 3), torch.randn(rows, 3)
            assert torch.equal(self.PROGRAM(x, y), x + y)

    def test_chunks_run_on_copies_that_are_free(self):
        """Three rows on two copies that take one: the third goes to whichever ends first, and the rows keep order."""
        order, first_may_end = [], threading.Event()

        def copy(number: int):
            def run(x):
                if x[0, 0] == 0:
                    first_may_end.wait(10)
                order.append((number, int(x[0, 0])))
                if x[0, 0] == 2:
                    first_may_end.set()
                return x + 1

            return run

        program = BatchedProgram([copy(0), copy(1)], [program_input("x", 1, 1)])
        rows = torch.arange(3.0)[:, None]
        assert torch.equal(program(rows), rows + 1)
        assert [row for _, row in order] == [1, 2, 0]
        assert len({number for number, row in order if row > 0}) == 1

        order.clear()
        for row in (1, 1, 1):
            program(rows[row : row + 1])
        assert len({number for number, _ in order}) == 1, "one thread stays on one core"

    def test_what_stays_is_cut_once_a_call(self, monkeypatch):
        cut, own_cut = [], BatchedProgram._cut
        monkeypatch.setattr(
            BatchedProgram, "_cut", lambda self, spec, *rest: cut.append(spec.name) or own_cut(self, spec, *rest)
        )
        program, y = self.PROGRAM.for_one_call(), torch.randn(3, 3)
        for _ in range(5):
            x = torch.randn(3, 3)
            assert torch.equal(program(x, y), x + y)
        assert (cut.count("x"), cut.count("y")) == (5, 1)
        y.add_(1)
        assert torch.equal(program(x, y), x + y)
        with torch.inference_mode():
            for _ in range(2):
                y = torch.ones(3, 3)
                program(x, y)
                y.add_(1)
                assert torch.equal(program(x, y), x + 2)

"""Exports and pipelines of the end-to-end tests.

Everything is compared with unmodified diffusers in float32 on the same checkpoint: two prompts of different length,
padded to 300 tokens, distinct latents.
"""

import gc
import json
import os
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from ..parity import psnr

PROMPTS = ["a red cat on a mat", "an astronaut riding a horse on mars, highly detailed, under two moons"]
NEGATIVE = "blurry"
STEPS = 3


def soak(*values):
    """A case of a parametrized test that is for `make soak` alone."""
    return pytest.param(*values, marks=pytest.mark.soak)


def noise(images: int = 1, size: tuple[int, int] = (256, 256), seed: int = 0) -> torch.Tensor:
    """Latents of images of (height, width) pixels."""
    return torch.randn(images, 4, size[0] // 8, size[1] // 8, generator=torch.Generator().manual_seed(seed))


def pipeline_arguments(images: int = 2) -> dict:
    """What every picture of these tests is made with; guidance at diffusers' default of 4.5."""
    return {"negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "latents": noise(images), "output_type": "np"}


def picture(pipe, **asked) -> np.ndarray:
    """What a pipeline draws of the first prompt."""
    return pipe(PROMPTS[0], **{**pipeline_arguments(1), **asked}).images[0]


def pictures(pipe) -> np.ndarray:
    """What a pipeline draws of both prompts."""
    return pipe(PROMPTS, **pipeline_arguments()).images


def neuron_section(folder: Path, component: str) -> dict:
    """What a compiled component says of itself."""
    return json.loads((folder / component / "config.json").read_text())["neuron"]


@pytest.fixture(scope="session", autouse=True)
def sdk():
    """The SDK of these tests: the installed one on an instance, the emulator elsewhere."""
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    return ensure_sdk()


@pytest.fixture(scope="session")
def reference(tiny_checkpoint):
    """diffusers' own pipeline in float32."""
    from diffusers import PixArtSigmaPipeline

    pipe = PixArtSigmaPipeline.from_pretrained(tiny_checkpoint)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def reference_images(reference) -> np.ndarray:
    return pictures(reference)


def export_to(output: Path, model: Path | str, **options) -> Path:
    """Export; without validation unless that is asked for."""
    from optimum_pixart_neuron.export.exporter import export
    from optimum_pixart_neuron.export.options import ExportOptions

    return export(ExportOptions(model=str(model), output=output, **{"disable_validation": True, **options}))


def describe(checkpoint: Path, **options) -> tuple:
    """The decisions of an export that is not made, and its components by name."""
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    sdk = ensure_sdk()  # which the host's exporter imports
    from optimum_pixart_neuron.checkpoint.open import open_checkpoint
    from optimum_pixart_neuron.deployment.deployment import chosen_instance, decide
    from optimum_pixart_neuron.export.describe import describe_components
    from optimum_pixart_neuron.export.options import ExportOptions

    asked = ExportOptions(model=str(checkpoint), output="out", **options)
    opened = open_checkpoint(asked)
    deployment = decide(asked, opened, chosen_instance(asked, sdk))
    return deployment, {each.COMPONENT.name: each for each in describe_components(opened, deployment, asked)}


@pytest.fixture(scope="session")
def exported(tiny_checkpoint, made_once, compiled_once):
    """Exports of the tiny checkpoint by options, each made once: `exported(tensor_parallel_size=2, ...)` -> folder."""

    def export_once(**options) -> Path:
        def make(folder: Path) -> None:
            with compiled_once():
                before = dict(os.environ)
                export_to(folder / name, **{"model": tiny_checkpoint, **options})
                after = dict(os.environ)
            if "TORCHINDUCTOR_CACHE_DIR" not in before:  # torch 2.8 sets it when make_fx first runs
                after.pop("TORCHINDUCTOR_CACHE_DIR", None)
            assert after == before, "the export left something in the environment"

        name, key = "pixart neuron", repr(sorted(options.items()))
        return made_once(f"export-{sha256(key.encode()).hexdigest()[:16]}", make) / name

    return export_once


def fresh_runtime() -> None:
    """Start the emulated runtime anew.

    The runtime reads the number of visible cores once a process, and the host sets it to the ranks of the first
    pipeline: on hardware a pipeline of another size needs another process.
    """
    from optimum_pixart_neuron import emulator

    if emulator.is_active():
        from optimum_pixart_neuron.emulator.device import reset_device
        from optimum_pixart_neuron.runtime.taken_cores import forget_taken

        gc.collect()
        reset_device()
        forget_taken()


def load_stock(folder: Path):
    """Load with optimum-neuron's own class."""
    from optimum.neuron import NeuronPixArtSigmaPipeline

    return load(NeuronPixArtSigmaPipeline, folder)


def load_ours(folder: Path, **arguments):
    """Load with this package's class."""
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    return load(NeuronPixArtSigmaPipeline, folder, **arguments)


def load(pipeline_class: type, folder: Path, **arguments):
    """Load on a runtime of its own, without a progress bar."""
    fresh_runtime()
    pipe = pipeline_class.from_pretrained(folder, **arguments)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def assert_same_pictures(images, expected, decibels: float = 55) -> None:
    assert len(images) == len(expected)
    for image, reference in zip(images, expected):
        assert psnr(image, reference) >= decibels

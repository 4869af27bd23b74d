"""The whole path on an instance with NeuronCores: `pytest -m neuron`.

Export and load are separate processes, because a process that compiles may hold cores until it ends; and each class
loads in a process of its own, because cores belong to one process.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ..parity import psnr
from .conftest import NEGATIVE, PROMPTS, STEPS

pytestmark = [pytest.mark.e2e, pytest.mark.neuron]

SCRIPT = f"""
import sys
import numpy as np
import torch
module, folder, output, *prompts = sys.argv[1:]
pipe = getattr(__import__(module, fromlist=["x"]), "NeuronPixArtSigmaPipeline").from_pretrained(folder)
latents = torch.randn(len(prompts), 4, 32, 32, generator=torch.Generator().manual_seed(0))
arguments = dict(negative_prompt={NEGATIVE!r}, num_inference_steps={STEPS}, latents=latents, output_type="np")
np.save(output, pipe(prompts, **arguments).images)
"""


def run(*command) -> None:
    subprocess.run([str(word) for word in command], check=True)


@pytest.fixture(scope="module")
def folder(tiny_checkpoint, tmp_path_factory):
    """Compiled by the real command for the machine's own instance, on two cores, which every instance has."""
    output = tmp_path_factory.mktemp("on-device") / "pixart"
    flags = ["--tensor_parallel_size", 2, "--batch_size", len(PROMPTS)]
    run(Path(sys.executable).with_name("optimum-cli"), "export", "neuron", "--model", tiny_checkpoint, output, *flags)
    return output


@pytest.mark.parametrize("module", ["optimum.neuron", "optimum_pixart_neuron"])
def test_pictures(sdk, folder, tmp_path, module, reference_images):
    assert not sdk.emulated and sdk.has_device
    (tmp_path / "script.py").write_text(SCRIPT)
    run(sys.executable, tmp_path / "script.py", module, folder, tmp_path / "images.npy", *PROMPTS)
    images = np.load(tmp_path / "images.npy")
    for image, expected in zip(images, reference_images, strict=True):
        assert psnr(image, expected) >= 38

"""The whole path on an instance with NeuronCores: `pytest -m neuron`.

Export and load are separate processes, because a process that compiles may hold cores until it ends; and each class
loads in a process of its own, because cores belong to one process.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import PROMPTS, assert_same_pictures
from .test_processes import USER_SCRIPT

pytestmark = [pytest.mark.e2e, pytest.mark.neuron]


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
    run(sys.executable, USER_SCRIPT, module, folder, tmp_path / "images.npy", *PROMPTS)
    assert_same_pictures(np.load(tmp_path / "images.npy"), reference_images, 38)

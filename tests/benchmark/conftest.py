"""Exports to measure: one of ours in float32 over two ranks, and one that the stock exporter made."""

import subprocess
import sys
from pathlib import Path

import pytest

from ..e2e.conftest import exported, sdk  # noqa: F401


@pytest.fixture(scope="session")
def folder(exported) -> Path:  # noqa: F811
    return exported(tensor_parallel_size=2, torch_dtype="float32")


@pytest.fixture(scope="session")
def stock_folder(tiny_checkpoint, tmp_path_factory) -> Path:
    """Made by `optimum.exporters.neuron` itself: one core, no manifest, no `parallel` section."""
    output = tmp_path_factory.mktemp("stock") / "exported"
    flags = "--batch_size 1 --height 256 --width 256 --num_images_per_prompt 1 --sequence_length 300"
    flags += " --task text-to-image --torch_dtype float32 --instance_type trn1 --disable-validation"
    exporter = ["optimum_pixart_neuron.emulator", "-m", "optimum.exporters.neuron", "--model", str(tiny_checkpoint)]
    subprocess.run([sys.executable, "-m", *exporter, *flags.split(), str(output)], check=True)
    return output

"""Exports that our class did not foresee: of the stock exporter, and of one core on a machine that shows one.

Every refusal of a folder is in `tests/artifact/`, `tests/runtime/test_loading.py` and `test_call.py`;
`tests/faults` damages real exports.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE
from optimum_pixart_neuron.errors import ArtifactError, ProgramInputError

from .conftest import assert_same_pictures, load_ours, load_stock, picture, pictures

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]


STOCK_EXPORT = """
import sys
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
ensure_sdk()
from optimum.exporters.neuron.__main__ import main
main()
"""


@pytest.mark.soak
def test_a_folder_of_the_stock_exporter(tiny_checkpoint, tmp_path):
    """Loaded without a manifest, to the host's own result; that it runs one batch is said at the call."""
    command = [sys.executable, "-c", STOCK_EXPORT, "--model", tiny_checkpoint, "--task", "text-to-image"]
    command += ["--batch_size", 1, "--height", 256, "--width", 256, "--sequence_length", 300]
    command += ["--instance_type", "trn1", "--torch_dtype", "float32", "--disable-validation", tmp_path / "stock"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    assert not (tmp_path / "stock" / MANIFEST_FILE).exists()
    expected = picture(load_stock(tmp_path / "stock"))
    pipe = load_ours(tmp_path / "stock")
    assert np.array_equal(picture(pipe), expected)
    with pytest.raises(ProgramInputError, match=r"expected 1 prompt\(s\), given 2; export with --batch_size 2"):
        pictures(pipe)
    os.truncate(tmp_path / "stock" / "text_encoder" / "weights" / "tp0_sharded_checkpoint.safetensors", 1000)
    with pytest.raises(ArtifactError, match="tp0_sharded_checkpoint.safetensors is truncated or damaged"):
        load_ours(tmp_path / "stock")


@pytest.mark.soak
def test_one_visible_core_is_enough_for_an_export_of_one(exported, monkeypatch, reference_images):
    """Then it runs the guidance pair and the images one after the other."""
    monkeypatch.setenv("NEURON_RT_NUM_CORES", "1")
    pipe = load_ours(exported(tensor_parallel_size=1, torch_dtype="float32", batch_size=2))
    assert len(pipe.transformer.model.copies) == 1
    assert_same_pictures(pictures(pipe), reference_images)

"""Real exports through `from_pretrained`: what is damaged or for another machine is refused before anything is loaded.

Every refusal by its words is in `tests/artifact/test_checks.py`, `tests/runtime/test_loading.py` and `test_call.py`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE
from optimum_pixart_neuron.errors import ArtifactError, DeviceError, ProgramInputError
from optimum_pixart_neuron.neuron.sdk import NeuronSdk

from .conftest import PROMPTS, assert_same_pictures, load_ours, load_stock, pipeline_arguments

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

SHARD = "{}/weights/tp{}_sharded_checkpoint.safetensors"


@pytest.fixture(scope="module")
def whole(exported) -> Path:
    return exported(tensor_parallel_size=2, torch_dtype="float32")


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.fixture
def pipeline_class(sdk):
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    return NeuronPixArtSigmaPipeline


@pytest.fixture
def nothing_loaded(monkeypatch):
    """Loading a program or weights is an error."""

    def forbidden(*arguments, **options):
        raise AssertionError(f"loaded {arguments}")

    monkeypatch.setattr(torch.jit, "load", forbidden)
    monkeypatch.setattr("optimum.neuron.modeling_traced.load_file", forbidden)
    monkeypatch.setattr("huggingface_hub.file_download.http_get", forbidden)


def test_ranks_in_each_others_place_are_refused(pipeline_class, folder, nothing_loaded):
    first, second, aside = (folder / SHARD.format("transformer", rank) for rank in (0, 1, "-aside"))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    with pytest.raises(ArtifactError) as caught:
        pipeline_class.from_pretrained(folder)
    assert "tp0_sharded_checkpoint.safetensors has another content than was exported: it is a copy of the" in str(
        caught.value
    )


def test_fewer_visible_cores_are_refused(pipeline_class, whole, monkeypatch, nothing_loaded):
    monkeypatch.setenv("NEURON_RT_NUM_CORES", "1")
    with pytest.raises(ArtifactError, match=r"needs 2 cores, and 1 are visible \(NEURON_RT_NUM_CORES=1\)"):
        pipeline_class.from_pretrained(str(whole))


def test_without_a_device_nothing_is_loaded_or_downloaded(pipeline_class, whole, monkeypatch, nothing_loaded):
    without_device = NeuronSdk(emulated=False, instance=None)
    monkeypatch.setattr("optimum_pixart_neuron.runtime.pipeline.ensure_sdk", lambda: without_device)
    for model_id in (whole, "missing", "user/repo"):
        with pytest.raises(DeviceError, match="loading it needs a machine with NeuronCores"):
            pipeline_class.from_pretrained(model_id)


@pytest.mark.parametrize("model_id", ["/no/such/folder", "./pixart-neuron/", Path("a/b/c")])
def test_a_folder_that_is_not_there(pipeline_class, nothing_loaded, model_id):
    with pytest.raises(ArtifactError, match="there is no such folder, and it is no repository id"):
        pipeline_class.from_pretrained(model_id)


def test_a_hub_id_is_pulled_and_checked(pipeline_class, folder, monkeypatch, nothing_loaded):
    """What arrives is checked like any folder; the options go to the download and not to the host."""
    asked = []
    monkeypatch.setattr(
        "optimum_pixart_neuron.runtime.pipeline.pull",
        lambda *arguments, **options: asked.append((arguments, options)) or folder,
    )
    (folder / SHARD.format("transformer", 1)).unlink()
    with pytest.raises(ArtifactError, match="tp1_sharded_checkpoint.safetensors is missing"):
        pipeline_class.from_pretrained("user/repo", revision="v1", token="t", cache_dir="c", local_files_only=True)
    assert asked == [(("user/repo",), {"revision": "v1", "token": "t", "cache_dir": "c", "local_files_only": True})]


STOCK_EXPORT = """
import sys
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
ensure_sdk()
from optimum.exporters.neuron.__main__ import main
main()
"""


@pytest.mark.soak
def test_a_folder_of_the_stock_exporter(pipeline_class, tiny_checkpoint, tmp_path):
    """Loaded without a manifest, to the host's own result; that it runs one batch is said at the call."""
    command = [sys.executable, "-c", STOCK_EXPORT, "--model", tiny_checkpoint, "--task", "text-to-image"]
    command += ["--batch_size", 1, "--height", 256, "--width", 256, "--sequence_length", 300]
    command += ["--instance_type", "trn1", "--torch_dtype", "float32", "--disable-validation", tmp_path / "stock"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    assert not (tmp_path / "stock" / MANIFEST_FILE).exists()
    arguments = pipeline_arguments(1)
    expected = load_stock(tmp_path / "stock")(PROMPTS[0], **arguments).images
    pipe = load_ours(tmp_path / "stock")
    assert np.array_equal(pipe(PROMPTS[0], **arguments).images, expected)
    with pytest.raises(ProgramInputError, match=r"expected 1 prompt\(s\), given 2; export with --batch_size 2"):
        pipe(PROMPTS, **pipeline_arguments())
    embeddings = {"prompt_embeds": torch.zeros(1, 120, 64), "prompt_attention_mask": torch.ones(1, 120)}
    with pytest.raises(
        ProgramInputError, match=r"prompt_embeds: expected \(any number, 300, 64\), given \(1, 120, 64\)"
    ):
        pipe(**embeddings)
    os.truncate(tmp_path / "stock" / SHARD.format("text_encoder", 0), 1000)
    with pytest.raises(ArtifactError, match="tp0_sharded_checkpoint.safetensors is truncated or damaged"):
        pipeline_class.from_pretrained(tmp_path / "stock")


@pytest.mark.soak
def test_one_visible_core_is_enough_for_an_export_of_one(exported, monkeypatch, reference_images):
    """Then it runs the guidance pair and the images one after the other."""
    monkeypatch.setenv("NEURON_RT_NUM_CORES", "1")
    pipe = load_ours(exported(tensor_parallel_size=1, torch_dtype="float32", batch_size=2))
    assert len(pipe.transformer.model.copies) == 1
    assert_same_pictures(pipe(PROMPTS, **pipeline_arguments()).images, reference_images)

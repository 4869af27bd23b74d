"""Real exports through `from_pretrained`: what is damaged or for another machine is refused before anything is loaded.

Every refusal by its words is in `tests/artifact/test_checks.py` and `tests/test_call_checks.py`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest
from optimum_pixart_neuron.errors import (
    ArtifactError,
    DeviceError,
    InvalidExportOption,
    LoadError,
    PixArtNeuronError,
    ProgramInputError,
)
from optimum_pixart_neuron.neuron.sdk import NeuronSdk

from ..parity import psnr
from .conftest import PROMPTS, fresh_runtime, load_ours, load_stock, pipeline_arguments

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


def swap_ranks(folder: Path, component: str) -> None:
    first, second, aside = (folder / SHARD.format(component, rank) for rank in (0, 1, "-aside"))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


DAMAGES = {
    "missing shard": (
        lambda folder: (folder / SHARD.format("text_encoder", 1)).unlink(),
        "text_encoder/weights/tp1_sharded_checkpoint.safetensors is missing; export or download it again",
    ),
    "missing component": (lambda folder: shutil.rmtree(folder / "transformer"), "transformer/ is missing"),
    "truncated shard": (
        lambda folder: os.truncate(folder / SHARD.format("transformer", 0), 70_000),
        "transformer/weights/tp0_sharded_checkpoint.safetensors is truncated: 70000 of",
    ),
    "truncated program": (
        lambda folder: os.truncate(folder / "vae_decoder/model.neuron", 70_000),
        "vae_decoder/model.neuron is truncated: 70000 of",
    ),
    "ranks of the text encoder swapped": (lambda folder: swap_ranks(folder, "text_encoder"), "weights of rank 1"),
    "ranks of the transformer swapped": (
        lambda folder: swap_ranks(folder, "transformer"),
        "transformer/weights/tp0_sharded_checkpoint.safetensors has another content than was exported: it is a copy of"
        " the weights of rank 1",
    ),
    "a rank too many": (
        lambda folder: shutil.copyfile(
            folder / SHARD.format("transformer", 0), folder / SHARD.format("transformer", 2)
        ),
        "tp2_sharded_checkpoint.safetensors is no part of this export, which has 2 rank(s)",
    ),
    "unreadable manifest": (
        lambda folder: (folder / MANIFEST_FILE).write_text("{}"),
        f"{MANIFEST_FILE} has no model",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused(pipeline_class, folder, nothing_loaded, damage):
    do, message = DAMAGES[damage]
    do(folder)
    with pytest.raises(ArtifactError) as caught:
        pipeline_class.from_pretrained(folder)
    assert message in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.soak
def test_files_of_another_export_are_refused(pipeline_class, folder, exported, nothing_loaded):
    """The same checkpoint and options but the dtype."""
    other = exported(tensor_parallel_size=2)
    shutil.copyfile(other / SHARD.format("transformer", 0), folder / SHARD.format("transformer", 0))
    with pytest.raises(ArtifactError, match="tp0_.* bytes, expected .* it is of another export, or damaged"):
        pipeline_class.from_pretrained(folder)


@pytest.mark.parametrize(
    ("variables", "sdk_here", "message"),
    [
        ({"NEURON_RT_NUM_CORES": "1"}, {}, r"needs 2 cores, and 1 are visible \(NEURON_RT_NUM_CORES=1\)"),
        ({}, {"instance": "trn2.48xlarge"}, "compiled for trn1, and this machine is trn2.48xlarge"),
        ({}, {"emulated": False}, "the emulator made it, and its programs run on no NeuronCore"),
    ],
)
def test_another_machine_is_refused(pipeline_class, whole, monkeypatch, nothing_loaded, variables, sdk_here, message):
    here = NeuronSdk(**{"emulated": True, "instance": "trn1.32xlarge", **sdk_here})
    monkeypatch.setattr("optimum_pixart_neuron.runtime.pipeline.ensure_sdk", lambda: here)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ArtifactError, match=message):
        pipeline_class.from_pretrained(str(whole))


@pytest.mark.parametrize("model_id", ["missing", "user/repo"])
def test_without_a_device_nothing_is_loaded_or_downloaded(
    pipeline_class, whole, tmp_path, monkeypatch, nothing_loaded, model_id
):
    monkeypatch.setattr(
        "optimum_pixart_neuron.runtime.pipeline.ensure_sdk", lambda: NeuronSdk(emulated=False, instance=None)
    )
    for folder in (whole, model_id):
        with pytest.raises(DeviceError, match="loading it needs a machine with NeuronCores"):
            pipeline_class.from_pretrained(folder)


@pytest.mark.parametrize("model_id", ["/no/such/folder", "./pixart-neuron/", Path("a/b/c")])
def test_a_folder_that_is_not_there(pipeline_class, nothing_loaded, model_id):
    with pytest.raises(ArtifactError, match="there is no such folder, and it is no repository id"):
        pipeline_class.from_pretrained(model_id)


def test_a_checkpoint_is_no_export(pipeline_class, tiny_checkpoint, nothing_loaded):
    with pytest.raises(ArtifactError, match="nothing in it is compiled; compile it with `optimum-cli export neuron`"):
        pipeline_class.from_pretrained(tiny_checkpoint)


def test_verify_full(pipeline_class, folder, nothing_loaded):
    """One bit in the middle of a weight file, which no size and no sample shows."""
    path = folder / "vae_decoder" / "weights" / "tp0_sharded_checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    blocks = [max(len(content) - 4096, 0) * number // 15 for number in (7, 8)]
    content[(blocks[0] + 4096 + blocks[1]) // 2] ^= 1  # between two blocks of the sample
    path.write_bytes(content)
    with pytest.raises(LoadError, match="loaded"):  # past the checks
        pipeline_class.from_pretrained(folder)
    with pytest.raises(ArtifactError, match="weights/tp0_.* is damaged: its SHA-256 is not the manifest's"):
        pipeline_class.from_pretrained(folder, verify="full")
    with pytest.raises(InvalidExportOption, match="verify='sha': choose none, sizes, full"):
        pipeline_class.from_pretrained(folder, verify="sha")


def test_an_edited_scheduler_is_the_users_choice(pipeline_class, folder):
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text().replace("0.02", "0.03"))
    with pytest.raises(ArtifactError, match="scheduler_config.json .* or load with verify='none' to keep"):
        pipeline_class.from_pretrained(folder)
    fresh_runtime()
    assert pipeline_class.from_pretrained(folder, verify="none").scheduler.config.beta_end == 0.03


def test_a_saved_copy_passes_in_full(pipeline_class, whole, tmp_path):
    load_ours(whole).save_pretrained(tmp_path / "copy")
    assert Manifest.read(tmp_path / "copy") == Manifest.read(whole)
    fresh_runtime()
    assert pipeline_class.from_pretrained(tmp_path / "copy", verify="full")


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
    for image, expected in zip(pipe(PROMPTS, **pipeline_arguments()).images, reference_images, strict=True):
        assert psnr(image, expected) >= 55


@pytest.mark.soak
def test_what_was_compiled_into_a_temporary_folder_is_kept_if_it_cannot_be_loaded(
    pipeline_class, tiny_checkpoint, monkeypatch, tmp_path
):
    monkeypatch.setenv("NEURON_RT_NUM_CORES", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DeviceError, match=r"compiled into .*, but it needs 2 cores, and 1 are visible") as caught:
        pipeline_class.from_pretrained(tiny_checkpoint, export=True, tensor_parallel_size=2, disable_validation=True)
    folder = Path(str(caught.value).removeprefix("compiled into ").partition(", but")[0])
    assert folder.is_relative_to(tmp_path) and Manifest.read(folder).ranks == 2
    with pytest.raises(PixArtNeuronError):
        pipeline_class.from_pretrained(tmp_path / "no checkpoint", export=True)
    assert [path for path in tmp_path.glob("pixart-neuron-*") if path not in folder.parents] == []


@pytest.fixture(scope="module")
def pipe(whole):
    return load_ours(whole)


class TestCalls:
    """A refused call runs no program, and leaves the pipeline as it was."""

    @pytest.fixture
    def nothing_runs(self, pipe, monkeypatch):
        def forbidden(*tensors):
            raise AssertionError("a program ran")

        for part in (pipe.text_encoder, pipe.transformer, pipe.vae_decoder):
            monkeypatch.setattr(part, "model", forbidden)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"prompt": [*PROMPTS], "latents": torch.zeros(1, 4, 32, 32)}, r"latents: expected \(2, 4, 32, 32\)"),
            ({"prompt": PROMPTS[0], "latents": torch.zeros(1, 4, 32, 32).long()}, "latents: expected torch.float32"),
            ({"prompt": PROMPTS, "negative_prompt": ["rain"]}, "negative_prompt: expected a string, a list of 2"),
            ({"prompt": PROMPTS[0], "num_inference_steps": 0}, "num_inference_steps: expected a whole number"),
            ({"prompt": PROMPTS[0], "generator": [3]}, r"generator\[0\]: expected a torch.Generator"),
            (
                {"prompt_embeds": torch.zeros(1, 300, 32), "prompt_attention_mask": torch.ones(1, 300)},
                r"prompt_embeds: expected \(any number, 300, 64\), given \(1, 300, 32\)",
            ),
        ],
    )
    def test_refused(self, pipe, nothing_runs, arguments, message):
        with pytest.raises(ProgramInputError, match=message):
            pipe(**arguments)

    def test_latents_of_other_float_dtypes(self, pipe):
        arguments = pipeline_arguments(1)
        doubled = {**arguments, "latents": arguments["latents"].double()}
        assert np.array_equal(pipe(PROMPTS[0], **doubled).images, pipe(PROMPTS[0], **arguments).images)

    def test_arguments_by_position(self, pipe, reference):
        def picture(each) -> np.ndarray:
            seed = torch.Generator().manual_seed(1)
            return each(PROMPTS[0], "rain", 2, None, None, 3.0, 1, 256, 256, 0.0, seed, output_type="np").images[0]

        assert psnr(picture(pipe), picture(reference)) >= 55

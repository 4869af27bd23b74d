"""Compiled folders on the emulator: from the exporter's call, and from the command."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.artifact.manifest_records import ValidationRecord
from optimum_pixart_neuron.commands.pixart_validate import COMMAND
from optimum_pixart_neuron.emulator import device
from optimum_pixart_neuron.errors import ArtifactError, CheckpointError, DeviceError, PixArtNeuronError
from optimum_pixart_neuron.neuron.sdk import NeuronSdk
from optimum_pixart_neuron.validation.table import log_table

from ..checkpoints import opened
from ..e2e.conftest import fresh_runtime
from ..refusals import command_refusal
from .conftest import shard

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

COMPONENTS = ["text_encoder", "transformer", "vae_decoder"]


def missed(records: dict[str, ValidationRecord]) -> list[str]:
    return [name for name, record in records.items() if not record.passed]


def test_bfloat16_with_distinct_rows_in_every_run(bfloat16_folder, checkpoint, validate, logged):
    records = validate(bfloat16_folder, checkpoint)
    assert list(records) == [*COMPONENTS, "vae_encoder"]
    assert missed(records) == []
    assert all(0.999 < record.cosine < 1 and 40 < record.psnr < 70 for record in records.values())
    assert f"validation on the emulator of trn1.32xlarge against {checkpoint.source}" in logged.messages
    log_table(list(records.values()))
    shown = logged.messages[-1]
    assert all(word in shown for word in ("max error", "cosine", "PSNR", "limit", "ok", "55.", "dB")), shown


def test_the_shard_of_another_rank(bfloat16_folder, copied, checkpoint, validate):
    """Ranks that own the same heads, and others that nobody owns."""
    folder = copied(bfloat16_folder)
    shutil.copyfile(shard(folder, "text_encoder", 0), shard(folder, "text_encoder", 1))
    assert missed(validate(folder, checkpoint, "text_encoder")) == ["text_encoder"]


def test_shards_in_each_others_place(bfloat16_folder, copied, checkpoint, validate):
    """Ranks that take each other's half of the guidance pair."""
    folder = copied(bfloat16_folder)
    first, second = shard(folder, "transformer", 0), shard(folder, "transformer", 1)
    first.rename(folder / "aside")
    second.rename(first)
    (folder / "aside").rename(second)
    records = validate(folder, checkpoint, "text_encoder", "transformer")
    assert missed(records) == ["transformer"]
    assert records["transformer"].misses.startswith("transformer is off by ")


@pytest.mark.soak
def test_the_exporters_call_leaves_this_process_as_it_was(float32_folder, checkpoint, caplog):
    from optimum_pixart_neuron.validation.validate import validate_artifacts

    fresh_runtime()
    before = dict(os.environ)
    with caplog.at_level("INFO", logger="optimum_pixart_neuron"):
        records = validate_artifacts(float32_folder, checkpoint, atol=1e-7)
    assert dict(os.environ) == before
    assert [record.component for record in records] == COMPONENTS
    assert {record.limit for record in records} == {"max error 1e-07, as given"}
    assert not any(record.passed for record in records)
    assert caplog.text.count("MISS") == 3
    assert device._device is None, "the runtime of this process was started, and has its number of cores"


def test_an_error_of_the_process_is_raised_here(float32_folder, copied, checkpoint, in_process, monkeypatch):
    from optimum_pixart_neuron.commands import validation_child
    from optimum_pixart_neuron.validation import validate as module

    def run_here(_module: str, _argv: list[str], descriptors: list[int]) -> int:
        with open(descriptors[0], "r+b", closefd=False) as shared, open(descriptors[1], "w", closefd=False) as log:
            validation_child.main(shared, log)
        return 0

    monkeypatch.setattr(module, "run_module", run_here)
    folder = copied(float32_folder)
    (folder / "transformer" / "model.neuron").unlink()
    with pytest.raises(ArtifactError, match="transformer/model.neuron is missing"):
        module.validate_artifacts(folder, checkpoint, atol=None)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (137, PixArtNeuronError, "the validation ended with status 137 before its verdict; --disable-validation"),
        (130, KeyboardInterrupt, None),
        (143, SystemExit, "143"),
    ],
)
def test_a_process_that_ends_early(float32_folder, checkpoint, monkeypatch, status, error, message):
    from optimum_pixart_neuron.validation import validate as module

    monkeypatch.setattr(module, "run_module", lambda *_, **__: status)
    with pytest.raises(error, match=message):
        module.validate_artifacts(float32_folder, checkpoint, atol=None)


def test_hardware_that_cannot_run_it_is_said_and_nothing_is_compared(float32_folder, checkpoint, monkeypatch, logged):
    from optimum_pixart_neuron.validation import validate as module

    monkeypatch.setattr(module, "ensure_sdk", lambda: NeuronSdk(emulated=False, instance="trn2.48xlarge"))
    assert module.validate_artifacts(float32_folder, checkpoint, atol=None) == ()
    assert logged.messages[-1].startswith("validation is left out: it is compiled for trn1")


def test_a_program_that_cannot_be_loaded_is_an_error_of_one_line(float32_folder, checkpoint, validate, monkeypatch):
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "0")
    with pytest.raises(DeviceError, match="text_encoder cannot be run: .*cores 0 to 1 are needed, 1 are visible"):
        validate(float32_folder, checkpoint)


@pytest.fixture
def in_process():
    """The command changes what a signal does."""
    previous = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.soak
def test_the_command(float32_folder, tiny_checkpoint, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in float32_folder.rglob("*")}
    command = [sys.executable, "-m", "optimum_pixart_neuron.commands.pixart_validate", str(float32_folder)]
    done = subprocess.run([*command, "--json", str(tmp_path / "result.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"validation on the emulator of trn1.32xlarge against {tiny_checkpoint}\n")
    records = [ValidationRecord.model_validate(entry) for entry in json.loads((tmp_path / "result.json").read_text())]
    assert [record.component for record in records] == COMPONENTS
    assert all(record.passed and record.max_error < 2e-5 for record in records)
    assert {path: path.stat().st_mtime_ns for path in float32_folder.rglob("*")} == before


@pytest.mark.soak
def test_the_command_on_other_weights_ends_with_status_3(float32_folder, other_checkpoint, in_process, capsys):
    fresh_runtime()
    assert COMMAND.main([str(float32_folder), "--model", other_checkpoint.source]) == 3
    shown = capsys.readouterr()
    assert shown.out.count("MISS") == 3
    said = shown.err.splitlines()[-1]
    assert said.startswith(
        "optimum-cli neuron pixart-validate: error: text_encoder, transformer, vae_decoder of "
        f"{float32_folder} do not compute what {other_checkpoint.source} does: text_encoder is off by "
    )
    assert "; transformer is off by " in said and "; vae_decoder is off by " in said


@pytest.fixture
def refused(in_process, capsys):
    """The line with which the command refuses its arguments."""
    return lambda *argv: command_refusal(COMMAND, [str(word) for word in argv], capsys)


def test_what_is_no_compiled_folder(refused, tiny_checkpoint, tmp_path, float32_folder, copied):
    assert refused(tmp_path / "none").startswith(f"{tmp_path / 'none'} is not a folder")
    assert refused(tiny_checkpoint).startswith(f"{tiny_checkpoint}/text_encoder/model.neuron is missing")
    damaged = copied(float32_folder)
    config = damaged / "transformer" / "config.json"
    sound = json.loads(config.read_text())
    config.write_text(json.dumps({**sound, "neuron": {}}))
    assert refused(damaged) == f"{config} was not written by this package; its programs cannot be validated"
    config.write_text("{")
    assert refused(damaged).startswith(f"{config} is damaged: ")


def test_a_checkpoint_that_cannot_be_found(refused, float32_folder, copied, tmp_path):
    without_manifest = copied(float32_folder)
    assert refused(without_manifest).endswith(
        "does not say what it was exported from; name the checkpoint with --model"
    )
    manifest = Manifest.read(float32_folder)
    manifest.model_copy(update={"model": str(tmp_path / "moved")}).write(without_manifest)
    assert refused(without_manifest) == (
        f"{tmp_path / 'moved'}, from which {without_manifest} was exported, is not there; name it by --model"
    )


def test_a_checkpoint_that_was_changed_since(refused, float32_folder, tiny_checkpoint, copied, tmp_path):
    trained = tmp_path / "trained"
    shutil.copytree(tiny_checkpoint, trained)
    folder = copied(float32_folder)
    Manifest.read(float32_folder).model_copy(update={"model": str(trained)}).write(folder)
    file = trained / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: weight + torch.rand_like(weight) for name, weight in load_file(file).items()}, file)
    assert (
        refused(folder)
        == f"{file} is not the file that was exported; to compare with it all the same, give --model {trained}"
    )


def test_a_checkpoint_of_another_geometry(float32_folder, tmp_path, validate):
    from tests.tiny import build_tiny_checkpoint

    deeper = opened(build_tiny_checkpoint(tmp_path / "deeper", layers=3))
    with pytest.raises(CheckpointError, match="transformer was compiled with num_layers 2, .*deeper has 3; --model"):
        validate(float32_folder, deeper)

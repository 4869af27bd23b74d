"""Bad inputs of an export: one line on stderr, a status that is not zero, nothing written, no weight read.

They run the export process's `main` here, two go through the real `optimum-cli`. Values that do not go together are in
`tests/export/test_settings.py`, other places of a model in `test_kinds.py` there, other outputs in `test_output.py`.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.checkpoint.weights import ComponentWeights
from optimum_pixart_neuron.commands.export_neuron import main

from ..checkpoints import rewrite

pytestmark = pytest.mark.e2e

ERROR = "optimum-cli export neuron: error: "
TRANSFORMER = Path("transformer", "diffusion_pytorch_model.safetensors")
TEXT_ENCODER = Path("text_encoder", "model.safetensors")


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "models" / "pixart"))


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Export to `<tmp_path>/exports/pixart neuron`, expect a refusal, return its line."""
    parent = tmp_path / "exports"
    parent.mkdir()
    output = parent / "pixart neuron"

    def no_weight_may_be_read(self, name):
        pytest.fail(f"weight {name} was read before the refusal")

    def run(model, *flags, output=output, status=2) -> str:
        before = contents(tmp_path)
        try:
            ended = main(["--model", str(model), str(output), *map(str, flags)])
        except SystemExit as end:  # argparse's way out
            ended = end.code
        assert ended == status
        assert contents(tmp_path) == before
        return only_line(capsys.readouterr().err)

    monkeypatch.setattr(ComponentWeights, "read", no_weight_may_be_read)
    # The export process writes it for the SDK; here it would stay.
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE", "trn1"))
    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


def contents(folder: Path) -> dict[Path, int]:
    """Every path below `folder`, hidden ones too, with the time of its last change."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def only_line(stderr: str) -> str:
    """The refusal, which must be the one line there is."""
    (line,) = stderr.splitlines()
    assert line.startswith(ERROR), stderr
    return line.removeprefix(ERROR)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tensor_parallel_size", 3], "--tensor_parallel_size 3 does not divide the 8 attention heads"),
        (["--tensor_parallel_size", 4, "--instance_type", "inf2.xlarge"], "4: inf2.xlarge has 2 cores"),
        (["--height", 2048], "--height 2048: the checkpoint was trained for sides of 128 to 512 pixels"),
        (["--variant", "fp16"], r"model.fp16.safetensors is missing \(found model.safetensors; change --variant\)"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_values_the_model_or_the_instance_cannot_have(refused, tiny_checkpoint, flags, message):
    assert re.search(message, refused(tiny_checkpoint, *flags))


def without_weight(folder: Path) -> None:
    weights = load_file(folder / TRANSFORMER)
    del weights["proj_out.bias"]
    save_file(weights, folder / TRANSFORMER)


def with_wrong_shape(folder: Path) -> None:
    weights = load_file(folder / TEXT_ENCODER)
    weights["encoder.final_layer_norm.weight"] = torch.ones(3)
    save_file(weights, folder / TEXT_ENCODER)


def missing_shard(folder: Path) -> None:
    (folder / TRANSFORMER).unlink()
    index = {"metadata": {}, "weight_map": {"proj_out.bias": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def without_tokenizer_model(folder: Path) -> None:
    for name in ("spiece.model", "tokenizer.json"):
        (folder / "tokenizer" / name).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "has no tokenizer"),
        (lambda folder: rewrite(folder / "model_index.json", scheduler=None), "has no scheduler"),
        (lambda folder: rewrite(folder / "model_index.json", _class_name="FluxPipeline"), "is a FluxPipeline, not a"),
        (lambda folder: (folder / "vae" / "config.json").unlink(), "vae/config.json is missing"),
        (lambda folder: (folder / "vae" / "config.json").write_text("{"), "vae/config.json is damaged: EOF"),
        (
            lambda folder: rewrite(folder / "transformer" / "config.json", sample_size=None),
            "transformer/config.json has no sample_size",
        ),
        (without_tokenizer_model, "tokenizer holds neither spiece.model nor tokenizer.json"),
        (lambda folder: (folder / TRANSFORMER).unlink(), "diffusion_pytorch_model.safetensors is missing"),
        (missing_shard, "00001-of-00002.safetensors is missing, though .* names it"),
        (lambda folder: os.truncate(folder / TRANSFORMER, 100), "is not a readable safetensors file"),
        (without_weight, "transformer: the checkpoint has no weight proj_out.bias"),
        (with_wrong_shape, r"final_layer_norm.weight has shape \(3,\), config.json asks for \(64,\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_incomplete_and_other_checkpoints(refused, checkpoint, damage, message):
    damage(checkpoint)
    assert re.search(message, refused(checkpoint))


def test_outputs_that_cannot_be_written(refused, tiny_checkpoint, tmp_path, monkeypatch):
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("data")
    assert "exists and is not empty" in refused(tiny_checkpoint, output=full)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert f"you may not write to {tmp_path}" in refused(tiny_checkpoint, output=tmp_path / "new" / "out")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (["--tensor_parallel_size", "3"], {}, "--tensor_parallel_size 3 does not divide the 8 attention heads"),
        ([], {"NEURON_EMULATOR_INSTANCE": "trn9"}, "NEURON_EMULATOR_INSTANCE: unknown instance 'trn9': known are"),
    ],
)
def test_through_the_real_command(tiny_checkpoint, tmp_path, flags, environment, message):
    """The line stands after what optimum-neuron says at import on every machine without NeuronCores."""
    command = [Path(sys.executable).with_name("optimum-cli"), "export", "neuron", "--model", tiny_checkpoint]
    environment = {**os.environ, **environment}
    done = subprocess.run([*command, tmp_path / "out", *flags], env=environment, capture_output=True, text=True)
    *said, line = done.stderr.splitlines()
    assert not any("optimum-cli" in other or "Traceback" in other or "Error" in other for other in said), said
    assert done.returncode == 2 and only_line(line).startswith(message)
    assert list(tmp_path.iterdir()) == []

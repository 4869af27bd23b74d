"""Folders of exports that a test may damage: real safetensors headers and zip archives, which nothing here loads."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from optimum_pixart_neuron.artifact import machine_checks
from optimum_pixart_neuron.artifact.checks import check_artifact
from optimum_pixart_neuron.artifact.manifest import listed_files
from optimum_pixart_neuron.errors import ArtifactError
from optimum_pixart_neuron.files import FileRecord
from optimum_pixart_neuron.hardware import CORE_VARIABLES, LNC_VARIABLES
from optimum_pixart_neuron.neuron.sdk import NeuronSdk

from ..checkpoints import rewrite
from ..hub.exports import manifest_of
from ..refusals import refusal
from ..runtime.stand_in import Geometry, write_export

RANKS = 4
COMPILER = "2.21.33363.0"
EMULATOR = NeuronSdk(emulated=True, instance="trn1.32xlarge")
AGAIN = "export or download it again"


@pytest.fixture
def machine(monkeypatch):
    """No variable of the runtime is set, and the installed compiler is that of the manifests."""
    for variable in (*CORE_VARIABLES, *LNC_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(machine_checks, "version", lambda name: f"{COMPILER}+installed")


@pytest.fixture
def stock(tmp_path, machine) -> Path:
    """Without a manifest, like the stock exporter's."""
    root = write_export(tmp_path / "export", Geometry(ranks=RANKS, ours=False))
    for component in ("text_encoder", "transformer", "vae_decoder"):
        with zipfile.ZipFile(root / component / "model.neuron", "w") as archive:
            archive.writestr("code", component * 1000)
    for number, component in enumerate(("text_encoder", "transformer")):
        write_shards(root / component / "weights", seed=number)
    (root / "scheduler" / "scheduler_config.json").write_text('{"beta_end": 0.02}')
    return root


@pytest.fixture
def exported(stock) -> Path:
    """With a manifest."""
    write_manifest(stock)
    return stock


def shard(rank: int) -> str:
    """One of the transformer's."""
    return f"transformer/weights/tp{rank}_sharded_checkpoint.safetensors"


def write_shards(folder: Path, seed: int) -> None:
    """One large tensor that all ranks share and a small one of each rank's own, as in context mode."""
    folder.mkdir(exist_ok=True)
    shared = np.random.default_rng(seed).standard_normal(50_000).astype(np.float32)
    for rank in range(RANKS):
        weights = {"shared": shared, "rank": np.array([rank], dtype=np.int32)}
        save_file(weights, folder / f"tp{rank}_sharded_checkpoint.safetensors")


def write_manifest(folder: Path, **fields) -> None:
    """One with the right digest of everything that is there now."""
    machine = {"instance": "trn1.32xlarge", "target": "trn1", "lnc": 1, "emulated": True, "components": {}}
    versions = {"neuronx-cc": f"{COMPILER}+emulated"}
    listed = {name: FileRecord.of(folder / name) for name in listed_files(folder)}
    manifest_of(RANKS, **{**machine, "versions": versions, "files": listed, **fields}).write(folder)


def rewrite_section(folder: Path, **changes) -> None:
    """Change keys of the transformer's `neuron` section."""
    path = folder / "transformer" / "config.json"
    rewrite(path, neuron={**json.loads(path.read_text())["neuron"], **changes})


def refused(folder: Path, sdk: NeuronSdk = EMULATOR, **options) -> str:
    """The line with which a folder is refused, which names it."""
    message = refusal(ArtifactError, check_artifact, folder, sdk, **options)
    assert str(folder) in message
    return message

"""A transformer alone, from a download cache and without network, through the real command: the same as the whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..checkpoints import COMMIT, Parts, cache
from .conftest import load_stock

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

ALONE = "PixArt-alpha/PixArt-Sigma-XL-2-512-MS"
COMPONENTS = "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"
# What differs: where things come from, and the transformer's config.json, which keeps the keys of its source.
OF_THE_SOURCE = {"neuron_manifest.json", "model_index.json", "transformer/config.json"}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.soak
def test_a_cached_transformer_alone_gives_the_artifacts_of_the_whole(tiny_checkpoint, exported, tmp_path):
    expected = contents(exported(tensor_parallel_size=2))
    parts = Parts.of(tiny_checkpoint, tmp_path)
    cache(tmp_path / "cache", ALONE, parts.alone)
    cache(tmp_path / "cache", COMPONENTS, parts.rest)
    output = tmp_path / "out"
    command = [Path(sys.executable).with_name("optimum-cli"), "export", "neuron", "--model", ALONE, output]
    flags = ["--cache_dir", tmp_path / "cache", "--tensor_parallel_size", 2]
    done = subprocess.run(
        [str(word) for word in [*command, *flags]],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"  note        text_encoder, vae, tokenizer, scheduler from {COMPONENTS}\n" in done.stdout
    found = contents(output)
    assert set(found) == set(expected)
    # Not the programs: TorchScript names what is in an archive by what the process scripted before.
    differing = {name for name in found if found[name] != expected[name] and not name.endswith("model.neuron")}
    assert differing <= OF_THE_SOURCE
    index = json.loads(found["model_index.json"])
    assert (index["_class_name"], index["_diffusers_version"]) == ("PixArtSigmaPipeline", "0.22.0.dev0")
    manifest = json.loads(found["neuron_manifest.json"])
    assert manifest["components"]["vae_decoder"]["source"]["model"] == COMPONENTS
    assert manifest["components"]["transformer"]["source"]["revision"] == COMMIT
    assert load_stock(output).transformer is not None

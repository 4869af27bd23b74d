"""From the command line to the Hub and into fresh processes, which know nothing but its address."""

import inspect
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import optimum_pixart_neuron
from optimum_pixart_neuron.artifact.manifest import EXAMPLE_FILE, MANIFEST_FILE

from .exports import content
from .fake_hub import FakeHub

pytestmark = pytest.mark.e2e

REPO = "user/tiny-pixart-neuron"
RANKS = 2
FOREIGN = {"cat.png": b"\0picture", "checkpoint/model.safetensors": b"weights"}
TIMEOUT_S = 600

LOAD = """
import gc
import sys

import numpy as np
import torch

from optimum_pixart_neuron.emulator.device import reset_device
from optimum_pixart_neuron.neuron.sdk import ensure_sdk

ensure_sdk()
from optimum.neuron import NeuronPixArtSigmaPipeline as Stock
from optimum_pixart_neuron import NeuronPixArtSigmaPipeline as Ours
from optimum_pixart_neuron.runtime.taken_cores import forget_taken

output, repository, revision, folder, cache = sys.argv[1:]
latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
arguments = {"negative_prompt": "blurry", "num_inference_steps": 2, "latents": latents, "output_type": "np"}


def picture(pipeline_class, *args, **options):
    gc.collect()
    reset_device()
    forget_taken()
    return pipeline_class.from_pretrained(*args, **options)("a red cat", **arguments).images


from_hub = picture(Ours, repository, revision=revision)
from_folder = picture(Ours, folder)
stock = picture(Stock, repository, revision=revision, cache_dir=cache)
np.savez(output, from_hub=from_hub, from_folder=from_folder, stock=stock)
"""


@pytest.fixture(scope="module")
def hub():
    with FakeHub() as running:
        running.create(REPO, FOREIGN)
        yield running


def run(command: list[object], hub: FakeHub, home: Path) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [str(word) for word in command]
    return subprocess.run(
        command, env={**kept, **hub.environment(home)}, capture_output=True, text=True, timeout=TIMEOUT_S
    )


@pytest.fixture(scope="module")
def pushed(hub, tiny_checkpoint, tmp_path_factory) -> tuple[Path, str]:
    """An export on 2 ranks that the command pushed: its folder, and the commit."""
    base = tmp_path_factory.mktemp("pushed")
    command = [Path(sys.executable).with_name("optimum-cli"), "export", "neuron", "--model", tiny_checkpoint]
    command += [base / "pipeline", "--tensor_parallel_size", RANKS, "--push_to_hub", REPO, "--allow_emulated"]
    command += ["--disable-validation", "--vae_parallel", "one"]
    done = run(command, hub, base / "hf")
    assert done.returncode == 0, done.stderr
    commit = hub.repositories[REPO].refs["main"]
    assert done.stdout.splitlines()[-1] == f"pushed to {hub.url}/{REPO}/commit/{commit}"
    return base / "pipeline", commit


def test_the_command_pushes_the_whole_export(hub, pushed):
    folder, _ = pushed
    files = hub.files(REPO)
    card = files.pop("README.md").decode()
    made = {**content(folder), **FOREIGN}
    assert {name for name, pushed in files.items() if pushed != made[name]} == {MANIFEST_FILE}
    assert "These artifacts run on no Neuron\n> device." in card
    assert "the local checkpoint `tiny-pixart-sigma`" in card
    assert "| Image | 256x256 px (height x width) |" in card
    assert f"]({EXAMPLE_FILE})" in card and Image.open(folder / EXAMPLE_FILE).size == (256, 256)


def test_nothing_pushed_says_where_things_lie_on_this_machine(hub, pushed, tiny_checkpoint):
    here = [str(place).encode() for place in (pushed[0].parent, tiny_checkpoint.parent, Path(sys.prefix), Path.home())]
    here.append(os.fsencode(Path(optimum_pixart_neuron.__file__).parent))
    for name, file in hub.files(REPO).items():
        parts = {name: file}
        if name.endswith(".neuron"):
            with zipfile.ZipFile(io.BytesIO(file)) as archive:
                parts = {entry: archive.read(entry) for entry in archive.namelist()}
        for part, held in parts.items():
            assert not [place for place in here if place in held], f"{name}: {part}"


@pytest.mark.soak
def test_both_classes_download_what_they_need_and_make_the_same_picture(hub, pushed, tmp_path):
    folder, commit = pushed
    hub.requests.clear()
    output = tmp_path / "pictures.npz"
    done = run([sys.executable, "-c", LOAD, output, REPO, commit, folder, tmp_path / "cache"], hub, tmp_path / "hf")
    assert done.returncode == 0, done.stderr
    pictures = np.load(output)
    assert np.array_equal(pictures["from_hub"], pictures["from_folder"])
    assert np.allclose(pictures["stock"], pictures["from_folder"], atol=1e-6)  # the same programs on the same numbers
    downloads = hub.downloads()
    assert downloads == sorted(content(folder).keys() - {EXAMPLE_FILE}), "the picture is for the card alone"
    for component in ("text_encoder", "transformer"):
        shards = [f"{component}/weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(RANKS)]
        assert [name for name in downloads if name.startswith(f"{component}/weights/")] == shards


def test_the_pipelines_method_takes_what_the_hosts_takes(hub, pushed):
    """Without a loaded pipeline, which the machine that exports may be unable to load."""
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk

    ensure_sdk()
    from optimum.neuron.modeling_traced import NeuronTracedModel

    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    _, *hosts = inspect.signature(NeuronTracedModel.push_to_hub).parameters.values()
    ours = list(inspect.signature(NeuronPixArtSigmaPipeline.push_to_hub).parameters.values())
    assert [(one.name, one.default) for one in ours[: len(hosts)]] == [(one.name, one.default) for one in hosts]
    address = NeuronPixArtSigmaPipeline.push_to_hub(
        str(pushed[0]), "user/second", True, "v1", "hf_writer", hub.url, allow_emulated=True
    )
    assert address == f"{hub.url}/user/second/commit/{hub.repositories['user/second'].refs['v1']}"
    assert set(hub.files("user/second", "v1")) == {*content(pushed[0]), "README.md"}
    assert hub.repositories["user/second"].private

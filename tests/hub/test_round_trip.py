"""From the command line to the Hub and into fresh processes, which know nothing but its address."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .fake_hub import FakeHub

pytestmark = pytest.mark.e2e

REPO = "user/tiny-pixart-neuron"
RANKS = 4
FOREIGN = {"cat.png": b"\0picture", "checkpoint/model.safetensors": b"weights"}
TIMEOUT_S = 600

LOAD = """
import sys
import numpy as np
from optimum_pixart_neuron.emulator.device import reset_device
from optimum_pixart_neuron.sdk import ensure_sdk

ensure_sdk()
package, output, *sources = sys.argv[1:]
NeuronPixArtSigmaPipeline = __import__(package, fromlist=["NeuronPixArtSigmaPipeline"]).NeuronPixArtSigmaPipeline
images = []
for source in sources:
    reset_device()
    name, _, revision = source.partition("@")
    pipe = NeuronPixArtSigmaPipeline.from_pretrained(name, **({"revision": revision} if revision else {}))
    latents = np.random.default_rng(0).standard_normal((1, 4, 32, 32), dtype=np.float32)
    import torch
    arguments = {"num_inference_steps": 2, "latents": torch.from_numpy(latents), "output_type": "np"}
    images.append(pipe("a red cat", negative_prompt="blurry", **arguments).images)
    del pipe
np.save(output, np.stack(images))
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
    """An export on 4 ranks that the command pushed: its folder, and the commit."""
    base = tmp_path_factory.mktemp("pushed")
    command = [Path(sys.executable).with_name("optimum-cli"), "export", "neuron", "--model", tiny_checkpoint]
    command += [base / "pipeline", "--tensor_parallel_size", RANKS, "--push_to_hub", REPO, "--allow_emulated"]
    command += ["--disable-validation"]
    done = run(command, hub, base / "hf")
    assert done.returncode == 0, done.stderr
    commit = hub.repositories[REPO].refs["main"]
    assert done.stdout.splitlines()[-1] == f"pushed to {hub.url}/{REPO}/commit/{commit}"
    return base / "pipeline", commit


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_command_pushes_the_whole_export(hub, pushed):
    folder, _ = pushed
    files = hub.files(REPO)
    card = files.pop("README.md").decode()
    assert files == {**content(folder), **FOREIGN}
    assert "These artifacts run on no Neuron\n> device." in card
    assert "the local checkpoint `tiny-pixart-sigma`" in card
    assert "| Image | 256 x 256 px |" in card


def images(hub: FakeHub, home: Path, package: str, *sources: object) -> np.ndarray:
    output = home.with_suffix(".npy")
    done = run([sys.executable, "-c", LOAD, package, output, *sources], hub, home)
    assert done.returncode == 0, done.stderr
    return np.load(output)


def test_our_class_downloads_what_it_needs_and_makes_the_same_picture(hub, pushed, tmp_path):
    folder, commit = pushed
    hub.requests.clear()
    from_hub, from_folder = images(hub, tmp_path / "hf", "optimum_pixart_neuron", f"{REPO}@{commit}", folder)
    assert np.array_equal(from_hub, from_folder)
    downloads = hub.downloads()
    assert downloads == sorted(content(folder))
    for component in ("text_encoder", "transformer"):
        shards = [f"{component}/weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(RANKS)]
        assert [name for name in downloads if name.startswith(f"{component}/weights/")] == shards


def test_the_stock_class_loads_it_too(hub, pushed, tmp_path):
    (image,) = images(hub, tmp_path / "hf", "optimum.neuron", f"{REPO}@{pushed[1]}")
    assert image.shape == (1, 256, 256, 3) and image.std() > 0


def test_the_pipelines_method_takes_what_the_hosts_takes(hub, pushed):
    """Without a loaded pipeline, which the machine that exports may be unable to load."""
    from optimum_pixart_neuron.sdk import ensure_sdk

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

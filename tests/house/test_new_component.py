"""Proof: a component that no product file knows, defined here and added by one registry call.

It sharpens what the decoder gives: one convolution. It is exported, planned, validated, benchmarked, loaded and run in
the pipeline's call, where its pictures are those of its original on the pictures without it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from optimum_pixart_neuron import register_component, unregister_component
from optimum_pixart_neuron.artifact.card import model_card
from optimum_pixart_neuron.artifact.manifest import Manifest
from optimum_pixart_neuron.components.common.configuration import Configuration, Count
from optimum_pixart_neuron.components.common.original import Original, Samples, smooth
from optimum_pixart_neuron.components.component import Component, Input, Part, Per
from optimum_pixart_neuron.errors import ArtifactError, InvalidExportOption
from optimum_pixart_neuron.neuron.compiler import UNET_MODEL, ComponentFlags

from ..checkpoints import opened, rewrite
from ..e2e.conftest import (  # noqa: F401
    PROMPTS,
    export_to,
    fresh_runtime,
    load_ours,
    load_stock,
    pipeline_arguments,
    sdk,
)

NAME = "sharpener"


class Sharpener(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] and as much again of what a small convolution finds in them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, width, padding=width // 2)

    def forward(self, image: Tensor) -> Tensor:
        return image + self.convolution(image)


class CompiledSharpener(Sharpener):
    """The same as it is compiled: float32 at the borders, weights in another type."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"sharpened": super().forward(image.to(self.convolution.weight.dtype)).float()}


class SharpenerConfiguration(Configuration):
    """`sharpener/config.json`."""

    width: Count


def images_to_sharpen(wanted: Samples) -> dict[str, Tensor]:
    images = smooth(wanted.whole_runs(2), wanted.image_shape, torch.Generator().manual_seed(5))
    return {"image": images.clamp(-2, 2) / 2}


class SharpenerComponent(Component):
    """Runs once an image, on what the decoder gives."""

    name = NAME
    label = "Sharpener"
    part = Part(
        name=NAME,
        library="sharpening",
        class_name="Sharpener",
        weights="weights",
        settings=SharpenerConfiguration,
        optional=True,
    )
    model_type, task = "sharpener", "image-to-image"
    per = Per.IMAGE
    required = False
    follows = "vae_decoder"
    inputs = (Input(name="image", axes=("batch_size", 3, "height", "width"), dtype="float32"),)
    outputs = ("sharpened",)
    flags = ComponentFlags(model_type=UNET_MODEL)

    def shapes(self, config, deployment):
        return {"batch_size": 1, "num_channels": 3, "height": deployment.height, "width": deployment.width}

    def build(self, config, shapes, dtype, kernel=None):
        return CompiledSharpener(config["width"]).to(dtype)

    def original(self) -> Original:
        return Original(
            build=lambda config: Sharpener(config["width"]),
            call=lambda model, image: model(image),
            samples=images_to_sharpen,
        )


@pytest.fixture(scope="module")
def registered():
    component = SharpenerComponent()
    register_component(component)
    yield component
    unregister_component(NAME)


@pytest.fixture
def unregistered(registered):
    """For one test."""
    unregister_component(NAME)
    yield
    register_component(registered)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint, tmp_path_factory) -> Path:
    """The tiny checkpoint with one more folder."""
    folder = tmp_path_factory.mktemp("sharpened") / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / NAME).mkdir()
    (folder / NAME / "config.json").write_text(json.dumps({"_class_name": "Sharpener", "width": 3}))
    weight = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(4)) / 10
    weights = {"convolution.weight": weight, "convolution.bias": torch.tensor([0.05, 0.0, -0.05])}
    save_file(weights, folder / NAME / "weights.safetensors")
    rewrite(folder / "model_index.json", **{NAME: ["sharpening", "Sharpener"]})
    return folder


@pytest.fixture(scope="module")
def exported(registered, checkpoint, tmp_path_factory, compiled_once) -> Path:
    output = tmp_path_factory.mktemp("sharpened export") / "pipeline"
    options = {"tensor_parallel_size": 2, "torch_dtype": "float32", "vae_parallel": "one"}
    with compiled_once():
        return export_to(output, checkpoint, **options, disable_validation=False)


@pytest.mark.e2e
@pytest.mark.ranks
class TestExported:
    def test_it_has_a_row_in_the_manifest_and_in_the_card(self, exported):
        manifest = Manifest.read(exported)
        record = manifest.components[NAME]
        assert [tensor.shape for tensor in (*record.inputs, *record.outputs)] == [(1, 3, 256, 256)] * 2
        assert f"{NAME}/model.neuron" in manifest.files
        card = model_card(manifest, "somebody/pixart", None)
        assert card.count(f"| `{NAME}` |") == 3, "among programs, comparisons and sources"

    def test_it_was_compared_with_its_original(self, exported, logged):
        from optimum_pixart_neuron.validation.table import log_table

        validation = Manifest.read(exported).validation
        records = {record.component: record for record in validation}
        assert records[NAME].passed and records[NAME].max_error < 1e-5
        logged.clear()
        log_table(validation)
        assert NAME in logged.messages[0]

    @torch.no_grad()
    def test_it_runs_in_the_pipelines_call(self, exported, checkpoint):
        """One image a run; the stock class runs the same programs without it."""
        asked = {**pipeline_arguments(1), "output_type": "pt"}
        plain = load_stock(exported)(PROMPTS[:1], **asked).images
        ours = load_ours(exported)
        sharp = ours(PROMPTS[:1], **asked).images
        original = Sharpener(3)
        original.load_state_dict(load_file(checkpoint / NAME / "weights.safetensors"))
        expected = original(2 * plain - 1).clamp(-1, 1) / 2 + 0.5
        # diffusers clamps what leaves the pipeline; the convolution reads its neighbours, in every channel.
        clipped = ((plain == 0) | (plain == 1)).any(dim=1, keepdim=True)
        inside = ~F.max_pool2d(clipped.float(), 3, stride=1, padding=1).bool().expand_as(plain)
        assert inside.float().mean() > 0.1
        assert (sharp - expected)[inside].abs().max() < 1e-4
        assert (sharp - plain).abs().max() > 1e-2
        two = ours(PROMPTS, **{**pipeline_arguments(2), "output_type": "pt"}).images
        assert (two[:1] - sharp).abs().max() < 1e-4 < (two[1] - two[0]).abs().max()

    def test_it_is_benchmarked(self, exported, capsys):
        from optimum_pixart_neuron.benchmark.measure import benchmark
        from optimum_pixart_neuron.benchmark.options import BenchmarkOptions
        from optimum_pixart_neuron.benchmark.table import print_report
        from optimum_pixart_neuron.terminal.table import console

        fresh_runtime()
        report = benchmark(BenchmarkOptions(output=exported, images=1, warmup=0, num_inference_steps=1))
        (sample,) = report.samples
        assert len(sample.calls[NAME]) == 1 and sample.components[NAME] > 0
        print_report(report, console())
        assert NAME in capsys.readouterr().out

    def test_it_is_refused_where_it_is_not_registered(self, exported, unregistered):
        with pytest.raises(ArtifactError, match=f"has a component {NAME} that is not registered here; register"):
            load_ours(exported)


@pytest.mark.seconds
def test_it_is_planned_and_has_a_column(registered, checkpoint, sdk):  # noqa: F811
    from io import StringIO

    from rich.console import Console

    from optimum_pixart_neuron.planner import Request, plan
    from optimum_pixart_neuron.planner.report import report
    from optimum_pixart_neuron.planner.table import show

    request = Request(height=256, width=256, sequence_length=24)
    rows = plan(request, checkpoint=opened(checkpoint), instances=["trn1.2xlarge"])
    planned = [row.component(NAME) for row in rows]
    assert planned and all(part.runs >= 1 and part.cost.weights == 2 * (3 * 3 * 9 + 3) for part in planned)
    shown = Console(file=StringIO(), width=200)
    show(rows, opened(checkpoint), request, shown, wide=True)
    assert registered.label in shown.file.getvalue()
    assert NAME in json.dumps(report(rows, opened(checkpoint), request))


class TestRegistering:
    def test_a_name_is_taken_once(self, registered):
        with pytest.raises(ValueError, match=f"a component '{NAME}' is registered"):
            register_component(SharpenerComponent())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"name": "nowhere", "follows": None}, "nowhere: nothing runs it; name the component that it follows"),
            ({"name": "lost", "follows": "unet"}, "lost: there is no component 'unet' to follow"),
            (
                {
                    "name": "asking",
                    "inputs": (*SharpenerComponent.inputs, Input(name="prompt", axes=(), dtype="int64")),
                },
                "asking: its input 'prompt' is none of vae_decoder, which it follows",
            ),
        ],
    )
    def test_there_must_be_a_place_for_it(self, registered, changes, message):
        with pytest.raises(ValueError, match=message):
            register_component(type("Changed", (SharpenerComponent,), changes)())

    def test_one_of_main_cannot_be_validated(self, unregistered, checkpoint, tmp_path):
        register_component(type("InMain", (SharpenerComponent,), {"__module__": "__main__"})())
        with pytest.raises(InvalidExportOption, match=f"{NAME} is defined in __main__, which the"):
            export_to(tmp_path / "out", checkpoint, disable_validation=False)
        unregister_component(NAME)
        assert not (tmp_path / "out").exists()

"""Interrupted exports: what the next run of the same command compiles, and what ends up in the manifest.

The compiler here writes one small file. What real exports that are killed or have no room leave, and that they then
become what undisturbed ones are, is in `tests/faults`.
"""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from optimum_pixart_neuron.artifact.manifest import Manifest, listed_files
from optimum_pixart_neuron.artifact.manifest_records import ValidationRecord
from optimum_pixart_neuron.errors import ValidationFailed
from optimum_pixart_neuron.files import FileRecord

from ..checkpoints import change_weights, rewrite
from .conftest import export_to, neuron_section, soak

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

ALL = ["text_encoder", "transformer", "vae_decoder"]


def run(checkpoint: Path, output: Path, **options) -> Path:
    return export_to(output, checkpoint, **{"tensor_parallel_size": 2, "vae_parallel": "one", **options})


def assert_whole(output: Path) -> Manifest:
    """Nothing lies beside the output, and its manifest knows every byte of it."""
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    manifest = Manifest.read(output)
    assert list(manifest.files) == listed_files(output)
    assert all(FileRecord.of(output / name) == record for name, record in manifest.files.items())
    return manifest


@pytest.fixture
def output(tmp_path) -> Path:
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "out"


class Compiler:
    """Writes one small file a component, notes it, leaves an intermediate file, and fails where it is told to.

    Attributes:
        compiled: components, in order.
        beside: how many other folders of intermediate files there were at each.
        fails: component -> what its compilation raises when it has written the file.
    """

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.beside: list[int] = []
        self.fails: dict[str, BaseException] = {}

    def __call__(self, job, taken) -> None:
        name = job.component.COMPONENT.name
        self.compiled.append(name)
        self.beside.append(len(list(job.workdir.parent.glob("work-*"))) - 1)
        (job.workdir / "graph").write_text("intermediate")
        job.folder.mkdir()
        (job.folder / "model.neuron").write_text(name)
        if name in self.fails:
            raise self.fails.pop(name)


@pytest.fixture
def compiler(monkeypatch) -> Compiler:
    from optimum_pixart_neuron.export import compile

    stand_in = Compiler()
    monkeypatch.setattr(compile, "compile_component", stand_in)
    return stand_in


def test_an_export_that_failed_goes_on_from_what_was_finished(compiler, tiny_checkpoint, output, logged):
    compiler.fails = {"transformer": RuntimeError("neuronx-cc failed")}
    with pytest.raises(RuntimeError, match="neuronx-cc failed"):
        run(tiny_checkpoint, output)
    unfinished = output.with_name(f".{output.name}.partial")
    assert [path.name for path in (unfinished / "artifacts").iterdir()] == ["text_encoder"] and not output.exists()
    run(tiny_checkpoint, output)
    assert compiler.compiled == ["text_encoder", "transformer", "transformer", "vae_decoder"]
    assert "[1/3] text_encoder: unchanged, kept from the interrupted export" in logged.messages
    assert_whole(output)


@pytest.fixture(scope="module")
def stopped(tiny_checkpoint, tmp_path_factory) -> Path:
    """A folder with an export of all components that was interrupted before it was in place."""
    from optimum_pixart_neuron.export import compile
    from optimum_pixart_neuron.export.unfinished import UnfinishedExport

    def seal(self, manifest):
        raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(compile, "compile_component", Compiler())
        patch.setattr(UnfinishedExport, "seal", seal)
        run(tiny_checkpoint, folder / "out")
    return folder


@pytest.fixture
def resumed(stopped, output) -> Path:
    """An output beside which that export is."""
    shutil.copytree(stopped, output.parent, dirs_exist_ok=True)
    return output


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({"sequence_length": 77}, ["text_encoder", "transformer"]),
        soak({"optlevel": 3}, ALL),
        soak({"vae_tile_size": 128}, ["vae_decoder"]),
        soak({"vae_parallel": "rows"}, ["vae_decoder"]),
        soak({"inline_weights_to_neff": True}, ["vae_decoder"]),  # of one core
        soak({"with_vae_encoder": True}, ["vae_encoder"]),
        soak({"parallel_mode": "tensor"}, ["transformer"]),
        soak({"tensor_parallel_size": 4}, ["text_encoder", "transformer"]),
        soak({"force": True}, ALL),
    ],
    ids=str,
)
def test_a_changed_flag_compiles_what_depends_on_it(tiny_checkpoint, resumed, compiler, options, again):
    run(tiny_checkpoint, resumed, **options)
    assert compiler.compiled == again
    assert compiler.beside == [0] * len(again), "those of finished components are gone"
    manifest = assert_whole(resumed)
    assert manifest.ranks == options.get("tensor_parallel_size", 2)
    for name in manifest.components:
        kept = "also of a component that was kept"
        assert neuron_section(resumed, name)["tensor_parallel_size"] == manifest.ranks, kept


def change_weight(checkpoint: Path) -> None:
    file = checkpoint / "transformer" / "diffusion_pytorch_model.safetensors"
    change_weights(file, {"proj_out.bias": torch.ones(32)})


@pytest.mark.parametrize(
    ("change", "again"),
    [
        soak(lambda checkpoint: [os.utime(path) for path in checkpoint.rglob("*")], []),
        (change_weight, ["transformer"]),
        soak(
            lambda checkpoint: rewrite(checkpoint / "text_encoder" / "config.json", dropout_rate=0.25),
            ["text_encoder"],
        ),
        soak(lambda checkpoint: rewrite(checkpoint / "scheduler" / "scheduler_config.json", beta_end=0.25), []),
    ],
    ids=["touched", "weight", "configuration", "scheduler"],
)
def test_a_changed_file_compiles_its_component(tiny_checkpoint, tmp_path, resumed, compiler, change, again):
    checkpoint = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    change(checkpoint)
    run(checkpoint, resumed)
    assert compiler.compiled == again
    manifest = assert_whole(resumed)
    assert manifest.model == manifest.components["transformer"].source.model == str(checkpoint)


@pytest.mark.soak
def test_another_compiler_compiles_all(tiny_checkpoint, resumed, compiler, monkeypatch):
    from optimum_pixart_neuron.export import exporter, record

    for module in (exporter, record):
        monkeypatch.setattr(module, "installed_versions", lambda: {"neuronx-cc": "99"})
    run(tiny_checkpoint, resumed)
    assert compiler.compiled == ALL
    assert assert_whole(resumed).versions == {"neuronx-cc": "99"}


# Validation


@pytest.fixture
def validated(monkeypatch):
    """Stands in for the validation: `verdicts` by component, `calls` with what it was given."""
    stand_in = SimpleNamespace(verdicts={}, calls=[])

    def validate_artifacts(folder, checkpoint, *, atol, steps):
        stand_in.calls.append((sorted(path.name for path in folder.iterdir()), atol))
        values = {"max_error": 0.5, "cosine": 0.9, "psnr": 20.0, "limit": "0.1 in bfloat16"}
        return tuple(ValidationRecord(component=name, passed=ok, **values) for name, ok in stand_in.verdicts.items())

    monkeypatch.setattr("optimum_pixart_neuron.validation.validate.validate_artifacts", validate_artifacts)
    return stand_in


def test_what_was_validated_is_in_the_manifest(tiny_checkpoint, resumed, compiler, validated):
    validated.verdicts = dict.fromkeys(ALL, True)
    run(tiny_checkpoint, resumed, disable_validation=False, atol=0.7, local_files_only=True)
    assert compiler.compiled == [], "what was kept is validated too"
    assert validated.calls == [(sorted([*ALL, "scheduler", "tokenizer"]), 0.7)]
    assert [record.component for record in assert_whole(resumed).validation] == ALL


@pytest.mark.soak
def test_artifacts_that_fail_are_kept_aside(tiny_checkpoint, resumed, compiler, validated):
    validated.verdicts = {"text_encoder": True, "transformer": False, "vae_decoder": True}
    with pytest.raises(ValidationFailed) as failure:
        run(tiny_checkpoint, resumed, disable_validation=False)
    aside = resumed.with_name("out.failed-validation")
    assert failure.value.exit_status == 3
    assert str(failure.value) == (
        f"validation failed: transformer is off by 0.5 (0.1 in bfloat16); the artifacts are kept in {aside}"
    )
    assert [record.passed for record in assert_whole(aside).validation] == [True, False, True]
    validated.verdicts = dict.fromkeys(ALL, True)
    run(tiny_checkpoint, resumed, disable_validation=False)
    assert compiler.compiled == ALL


@pytest.mark.soak
def test_nothing_is_validated_if_asked_or_without_a_device(tiny_checkpoint, output, compiler, validated, monkeypatch):
    from optimum_pixart_neuron.export import exporter
    from optimum_pixart_neuron.neuron.sdk import NeuronSdk

    run(tiny_checkpoint, output)
    monkeypatch.setattr(exporter, "ensure_sdk", lambda: NeuronSdk(emulated=False, instance=None))
    run(tiny_checkpoint, output.with_name("other"), instance_type="trn1", disable_validation=False)
    assert validated.calls == []
    assert Manifest.read(output).emulated and not Manifest.read(output.with_name("other")).emulated

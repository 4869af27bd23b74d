"""Interrupted exports: what the next run of the same command compiles, and what ends up in the manifest.

Most runs here have a compiler that writes one small file; the first test has the real one. What an export that is
killed or has no room leaves is in `tests/faults`.
"""

import errno
import json
import os
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

from optimum_pixart_neuron.artifact.manifest import Manifest, listed_files
from optimum_pixart_neuron.artifact.manifest_records import ValidationRecord
from optimum_pixart_neuron.errors import ValidationFailed
from optimum_pixart_neuron.files import FileRecord

from ..checkpoints import change_weights, rewrite
from .conftest import export_to

pytestmark = [pytest.mark.e2e, pytest.mark.ranks]

ALL = ["text_encoder", "transformer", "vae_decoder"]


def run(checkpoint: Path, output: Path, **options) -> Path:
    return export_to(output, checkpoint, **{"tensor_parallel_size": 2, "vae_parallel": "one", **options})


def holder(output: Path) -> Path:
    return output.with_name(f".{output.name}.partial")


def assert_whole(output: Path) -> Manifest:
    """Nothing lies beside the output, and its manifest knows every byte of it."""
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    manifest = Manifest.read(output)
    assert list(manifest.files) == listed_files(output)
    assert all(FileRecord.of(output / name) == record for name, record in manifest.files.items())
    return manifest


def without_programs(output: Path) -> dict[str, FileRecord]:
    """The files whose bytes an export decides; TorchScript numbers the classes of one process in its archives."""
    return {name: file for name, file in Manifest.read(output).files.items() if not name.endswith("model.neuron")}


@pytest.fixture
def output(tmp_path) -> Path:
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "out"


class Compiler:
    """Notes what is compiled, leaves an intermediate file of it, and fails where it is told to.

    Attributes:
        compiled: components, in order.
        beside: how many other folders of intermediate files there were at each.
        fails: component -> what its compilation raises when it has written half of it.
        real: compiles; None for one small file a component.
    """

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.beside: list[int] = []
        self.fails: dict[str, BaseException] = {}
        self.real = None

    def __call__(self, job, taken) -> None:
        name = job.component.COMPONENT.name
        self.compiled.append(name)
        self.beside.append(len(list(job.workdir.parent.glob("work-*"))) - 1)
        (job.workdir / "graph").write_text("intermediate")
        if name in self.fails:
            job.folder.mkdir()
            (job.folder / "model.neuron").write_text("half")
            raise self.fails.pop(name)
        if self.real:
            self.real(job, taken)
        else:
            job.folder.mkdir()
            (job.folder / "model.neuron").write_text(name)


@pytest.fixture
def compiler(monkeypatch) -> Compiler:
    from optimum_pixart_neuron.export import compile

    stand_in = Compiler()
    monkeypatch.setattr(compile, "compile_component", stand_in)
    return stand_in


def test_a_resumed_export_is_what_an_uninterrupted_one_is(monkeypatch, exported, tiny_checkpoint, output, logged):
    from optimum_pixart_neuron.export import compile

    options = {"torch_dtype": "float32", "vae_parallel": "auto"}
    compiler = Compiler()
    compiler.real, compiler.fails = compile.compile_component, {"transformer": RuntimeError("neuronx-cc failed")}
    monkeypatch.setattr(compile, "compile_component", compiler)
    with pytest.raises(RuntimeError, match="neuronx-cc failed"):
        run(tiny_checkpoint, output, **options)
    assert not output.exists()
    assert sorted(path.name for path in (holder(output) / "artifacts").iterdir()) == ["text_encoder"]
    line = f"kept text_encoder in {holder(output)}: the same command goes on from there, --force starts over"
    assert line in logged.messages
    run(tiny_checkpoint, output, **options)
    assert compiler.compiled == ["text_encoder", "transformer", "transformer", "vae_decoder"]
    assert "[1/3] text_encoder: unchanged, kept from the interrupted export" in logged.messages
    uninterrupted = Manifest.read(exported(tensor_parallel_size=2, torch_dtype="float32"))
    assert assert_whole(output).model_copy(update={"files": {}}) == uninterrupted.model_copy(update={"files": {}})
    assert without_programs(output) == without_programs(exported(tensor_parallel_size=2, torch_dtype="float32"))


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


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({"sequence_length": 77}, ["text_encoder", "transformer"]),
        pytest.param({"optlevel": 3}, ALL, marks=pytest.mark.soak),
        pytest.param({"vae_tile_size": 128}, ["vae_decoder"], marks=pytest.mark.soak),
        pytest.param({"vae_parallel": "rows"}, ["vae_decoder"], marks=pytest.mark.soak),
        pytest.param({"inline_weights_to_neff": True}, ["vae_decoder"], marks=pytest.mark.soak),  # of one core
        pytest.param({"with_vae_encoder": True}, ["vae_encoder"], marks=pytest.mark.soak),
        pytest.param({"parallel_mode": "tensor"}, ["transformer"], marks=pytest.mark.soak),
        pytest.param({"tensor_parallel_size": 4}, ["text_encoder", "transformer"], marks=pytest.mark.soak),
        pytest.param({"force": True}, ALL, marks=pytest.mark.soak),
    ],
    ids=str,
)
def test_a_changed_flag_compiles_what_depends_on_it(stopped, tiny_checkpoint, output, compiler, options, again):
    shutil.copytree(stopped, output.parent, dirs_exist_ok=True)
    run(tiny_checkpoint, output, **options)
    assert compiler.compiled == again
    assert compiler.beside == [0] * len(again), "those of finished components are gone"
    manifest = assert_whole(output)
    assert manifest.ranks == options.get("tensor_parallel_size", 2)
    for name in manifest.components:
        neuron = json.loads((output / name / "config.json").read_text())["neuron"]
        assert neuron["tensor_parallel_size"] == manifest.ranks, "also of a component that was kept"


def change_weight(checkpoint: Path) -> None:
    file = checkpoint / "transformer" / "diffusion_pytorch_model.safetensors"
    change_weights(file, {"proj_out.bias": torch.ones(32)})


@pytest.mark.parametrize(
    ("change", "again"),
    [
        pytest.param(
            lambda checkpoint: [os.utime(path) for path in checkpoint.rglob("*")], [], marks=pytest.mark.soak
        ),
        (change_weight, ["transformer"]),
        pytest.param(
            lambda checkpoint: rewrite(checkpoint / "text_encoder" / "config.json", dropout_rate=0.25),
            ["text_encoder"],
            marks=pytest.mark.soak,
        ),
        pytest.param(
            lambda checkpoint: rewrite(checkpoint / "scheduler" / "scheduler_config.json", beta_end=0.25),
            [],
            marks=pytest.mark.soak,
        ),
    ],
    ids=["touched", "weight", "configuration", "scheduler"],
)
def test_a_changed_file_compiles_its_component(stopped, tiny_checkpoint, tmp_path, output, compiler, change, again):
    shutil.copytree(stopped, output.parent, dirs_exist_ok=True)
    checkpoint = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    change(checkpoint)
    run(checkpoint, output)
    assert compiler.compiled == again
    manifest = assert_whole(output)
    assert manifest.model == manifest.components["transformer"].source.model == str(checkpoint)


@pytest.mark.soak
def test_another_compiler_compiles_all(stopped, tiny_checkpoint, output, compiler, monkeypatch):
    from optimum_pixart_neuron.export import exporter, record

    shutil.copytree(stopped, output.parent, dirs_exist_ok=True)
    for module in (exporter, record):
        monkeypatch.setattr(module, "installed_versions", lambda: {"neuronx-cc": "99"})
    run(tiny_checkpoint, output)
    assert compiler.compiled == ALL
    assert assert_whole(output).versions == {"neuronx-cc": "99"}


def test_saving_a_program_to_a_full_disk_is_an_error():
    """torch's own file writer would end the process here."""
    from optimum_pixart_neuron.export.archive import save_program

    with pytest.raises(OSError) as full:
        save_program(torch.jit.script(torch.nn.Linear(64, 64)), Path("/dev/full"))
    assert full.value.errno == errno.ENOSPC


# Validation


@pytest.fixture
def validated(monkeypatch):
    """Stands in for the validation: `verdicts` by component, `calls` with what it was given."""
    stand_in = types.SimpleNamespace(verdicts={}, calls=[])

    def validate_artifacts(folder, checkpoint, *, atol, steps):
        stand_in.calls.append((sorted(path.name for path in folder.iterdir()), atol))
        values = {"max_error": 0.5, "cosine": 0.9, "psnr": 20.0, "limit": "0.1 in bfloat16"}
        return tuple(ValidationRecord(component=name, passed=ok, **values) for name, ok in stand_in.verdicts.items())

    module = types.ModuleType("optimum_pixart_neuron.validation.validate")
    module.validate_artifacts = validate_artifacts
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return stand_in


def test_what_was_validated_is_in_the_manifest(stopped, tiny_checkpoint, output, compiler, validated):
    shutil.copytree(stopped, output.parent, dirs_exist_ok=True)
    validated.verdicts = dict.fromkeys(ALL, True)
    run(tiny_checkpoint, output, disable_validation=False, atol=0.7, local_files_only=True)
    assert compiler.compiled == [], "what was kept is validated too"
    assert validated.calls == [(sorted([*ALL, "scheduler", "tokenizer"]), 0.7)]
    assert [record.component for record in assert_whole(output).validation] == ALL


@pytest.mark.soak
def test_artifacts_that_fail_are_kept_aside(stopped, tiny_checkpoint, output, compiler, validated):
    shutil.copytree(stopped, output.parent, dirs_exist_ok=True)
    validated.verdicts = {"text_encoder": True, "transformer": False, "vae_decoder": True}
    with pytest.raises(ValidationFailed) as failure:
        run(tiny_checkpoint, output, disable_validation=False)
    aside = output.with_name("out.failed-validation")
    assert failure.value.exit_status == 3
    assert str(failure.value) == (
        f"validation failed: transformer is off by 0.5 (0.1 in bfloat16); the artifacts are kept in {aside}"
    )
    assert [record.passed for record in assert_whole(aside).validation] == [True, False, True]
    validated.verdicts = dict.fromkeys(ALL, True)
    run(tiny_checkpoint, output, disable_validation=False)
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

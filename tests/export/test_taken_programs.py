"""Never compile the same program twice: what is compiled, counted by what is said and by calls of the compiler.

Every export here is of a small checkpoint on two ranks unless it says otherwise. Layout steps are not counted.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE, Manifest
from optimum_pixart_neuron.errors import ArtifactError, InvalidExportOption, PixArtNeuronError
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
from tests.compilers import StandInCompiler

from ..e2e.conftest import export_to

pytestmark = pytest.mark.e2e

SMALL = {"height": 128, "width": 128, "sequence_length": 16}
TWO_RANKS = {"tensor_parallel_size": 2, "vae_parallel": "one"}
ALL = ["text_encoder", "transformer", "vae_decoder"]


@pytest.fixture(scope="module")
def compilers(tmp_path_factory):
    """The stand-in compiler of this file and a cache of its own."""
    folder = tmp_path_factory.mktemp("compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NEURON_CC_FLAGS")
        patch.setenv("NEURON_COMPILE_CACHE_URL", str(folder / "cache"))
        yield StandInCompiler(folder / "neuronx-cc", patch)


@pytest.fixture(scope="module")
def fine_tuned(tiny_checkpoint, tmp_path_factory) -> Path:
    """The same checkpoint with other weights in every component."""
    folder = tmp_path_factory.mktemp("checkpoint") / "fine-tuned"
    shutil.copytree(tiny_checkpoint, folder)
    for file in folder.rglob("*.safetensors"):
        save_file({name: tensor * 1.25 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    return folder


def export_now(checkpoint: Path, output: Path, **options) -> None:
    export_to(output, checkpoint, **{**SMALL, **TWO_RANKS, **options})


@pytest.fixture(scope="module")
def first(compilers, tiny_checkpoint, tmp_path_factory) -> Path:
    """The first export, which compiles everything."""
    folder, before = tmp_path_factory.mktemp("first") / "export", len(compilers.calls)
    export_now(tiny_checkpoint, folder)
    assert len(compilers.calls) == before + 3
    return folder


@pytest.fixture
def export(compilers, tmp_path, logged):
    """Export, and say what was compiled and what was taken from where."""

    def run(checkpoint: Path, output: Path = tmp_path / "exported", **options):
        logged.clear()
        before = len(compilers.calls)
        export_now(checkpoint, output, **options)
        return Outcome(output, list(logged.messages), len(compilers.calls) - before)

    return run


@dataclass(frozen=True)
class Outcome:
    """What an export made and logged, and how often it called the compiler."""

    folder: Path
    messages: list[str]
    calls: int

    @property
    def compiled(self) -> list[str]:
        return self._said("compiling")

    @property
    def taken(self) -> list[str]:
        return self._said("taken from .+")

    def _said(self, what: str) -> list[str]:
        pattern = rf"\[\d/\d\] (\w+): \d+ rank\(s\)(?:, \d programs)?, {what}"
        return [found[1] for message in self.messages if (found := re.fullmatch(pattern, message))]


def weight_files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))}


def held_weights(folder: Path, component: str) -> dict[str, torch.Tensor]:
    from optimum_pixart_neuron.artifact.held_weights import load_unplaced, weights_of

    return weights_of(load_unplaced(folder / component / "model.neuron"))


def assert_fine_tuned(folder: Path, base: Path) -> None:
    """Every weight is that of the fine-tune: the checkpoint's times 1.25, exact in bfloat16 but for rounding."""
    for name, content in weight_files(folder).items():
        assert content != (base / name).read_bytes(), name
    for name in ALL:
        ensure_sdk().check_program(folder / name / "model.neuron")
    before, now = held_weights(base, "vae_decoder"), held_weights(folder, "vae_decoder")
    assert before.keys() == now.keys() and len(now) > 20
    for name, tensor in now.items():
        torch.testing.assert_close(tensor.float(), before[name].float() * 1.25, rtol=2**-7, atol=0)


def test_a_fine_tune_compiles_nothing(export, first, fine_tuned):
    tuned = export(fine_tuned)
    assert (tuned.compiled, tuned.taken, tuned.calls) == ([], ALL, 0)
    assert not any("compiling" in message for message in tuned.messages)
    assert_fine_tuned(tuned.folder, first)
    assert Manifest.read(tuned.folder).components["transformer"].recipes


@pytest.mark.parametrize(("vae", "compiled"), [("one", ALL[:2]), pytest.param("rows", ALL, marks=pytest.mark.soak)])
@pytest.mark.soak
def test_other_ranks(export, first, tiny_checkpoint, vae, compiled):
    """A decoder of one core is the same program for any number of ranks."""
    # From the first export alone: the cache of this file has what an earlier case compiled.
    alone = {"programs_from": str(first), "disable_neuron_cache": True}
    other = export(tiny_checkpoint, tensor_parallel_size=4, vae_parallel=vae, **alone)
    assert (other.compiled, other.calls) == (compiled, len(compiled))


@pytest.mark.soak
def test_without_the_cache(export, first, tiny_checkpoint, compilers):
    cache = Path(os.environ["NEURON_COMPILE_CACHE_URL"])
    before = sorted(cache.rglob("*"))
    other = export(tiny_checkpoint, disable_neuron_cache=True)
    assert (other.compiled, other.calls) == (ALL, 3)
    assert sorted(cache.rglob("*")) == before


@pytest.fixture
def own_cache(first, tmp_path, monkeypatch) -> Path:
    """A copy of the cache, with what the first export compiled."""
    cache = tmp_path / "cache"
    shutil.copytree(os.environ["NEURON_COMPILE_CACHE_URL"], cache)
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(cache))
    return cache


@pytest.mark.soak
def test_a_size_more_compiles_that_size_alone(export, compilers, tiny_checkpoint, tmp_path, monkeypatch):
    """Of the transformer, whose programs are one file, by way of the SDK's cache; a decoder of one core has a file a
    size, which is taken by itself."""
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path / "cache"))
    asked, sizes = {"height": None, "width": None}, ("128x128", "192x128")
    two = export(tiny_checkpoint, tmp_path / "two", sizes=sizes, **asked)
    assert two.calls == 1 + 2 + 2
    asked["sizes"] = (*sizes, "128x192")
    more = export(tiny_checkpoint, tmp_path / "three", programs_from=str(two.folder), **asked)
    assert (more.taken[:1], more.calls) == (["text_encoder"], 2)
    decoder = f"[3/3] vae_decoder: 1 rank(s), 3 programs, compiling 128x192; the others taken from {two.folder}"
    assert decoder in more.messages
    (said,) = [each for each in more.messages if "transformer is not taken from" in each]
    assert "2 program(s), 2 of the 3" in said
    for name in ("model.neuron", "192x128/model.neuron"):
        assert (more.folder / "vae_decoder" / name).read_bytes() == (two.folder / "vae_decoder" / name).read_bytes()
    for name, content in weight_files(two.folder).items():
        assert (more.folder / name).read_bytes() == content
    again = export(tiny_checkpoint, tmp_path / "again", **asked)
    assert (again.compiled, again.taken, again.calls) == ([], ALL, 0)


@pytest.mark.soak
def test_the_caches_of_the_sdk_and_ours_each_serve(export, own_cache, tiny_checkpoint):
    """Without our entries, graphs of ModelBuilder are found by the SDK, and `torch_neuronx.trace` compiles."""
    for entry in own_cache.glob("*/*+pixart"):
        shutil.rmtree(entry)
    other = export(tiny_checkpoint)
    assert (other.compiled, other.calls) == (ALL, 1)


@pytest.mark.soak
@pytest.mark.parametrize("damage", ["content", "others may write", "another program"])
def test_an_entry_that_cannot_be_trusted_is_left_out(export, own_cache, tiny_checkpoint, damage):
    for entry in own_cache.glob("*/*+pixart"):
        if damage == "content":
            file = entry / "model.neuron"
            file.write_bytes(file.read_bytes()[:-1] + b"?")
        elif damage == "others may write":
            entry.chmod(0o777)
        else:
            about = json.loads((entry / "program.json").read_text())
            about["recipes"][0]["ranks"] += 1
            (entry / "program.json").write_text(json.dumps(about))
    other = export(tiny_checkpoint)
    assert other.compiled == ALL
    said = [message for message in other.messages if "is left out" in message]
    assert len(said) == (0 if damage == "another program" else 3)


def test_programs_of_an_export(export, first, fine_tuned):
    """A fine-tune of it, without any cache: weights only are written."""
    tuned = export(fine_tuned, programs_from=str(first), disable_neuron_cache=True)
    assert (tuned.compiled, tuned.taken, tuned.calls) == ([], ALL, 0)
    assert not any("compiling" in message for message in tuned.messages)
    assert f"[1/3] text_encoder: 2 rank(s), taken from {first}" in tuned.messages
    assert_fine_tuned(tuned.folder, first)
    for name in ALL[:2]:
        program = f"{name}/model.neuron"
        assert (tuned.folder / program).read_bytes() == (first / program).read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("options", "compiled", "reason"),
    [
        ({"sequence_length": 24}, ALL[:2], "another traced graph (sizes, dtype, mode or configuration)"),
        ({"optlevel": 2}, ALL, "compiler flags .*, not .*-O2"),
        ({"tensor_parallel_size": 4}, ALL[:2], "ranks 2, not 4"),
        ({"instance_type": "trn2.48xlarge", "tensor_parallel_size": 4}, ALL, "LNC 1, not 2; target trn1, not trn2"),
        ({"inline_weights_to_neff": True}, ALL[2:], "the program is asked to hold its weights"),
    ],
    ids=str,
)
def test_programs_that_do_not_fit_are_named_and_compiled(export, first, tiny_checkpoint, options, compiled, reason):
    other = export(tiny_checkpoint, programs_from=str(first), disable_neuron_cache=True, **options)
    assert (other.compiled, other.calls) == (compiled, len(compiled))
    assert other.taken == [name for name in ALL if name not in compiled]
    pattern = reason if ".*" in reason else re.escape(reason)
    for name in compiled:
        assert any(re.match(rf"    {name} is not taken from .*: .*{pattern}", said) for said in other.messages), name


def test_exports_whose_programs_cannot_be_taken(export, first, tiny_checkpoint, tmp_path):
    with pytest.raises(InvalidExportOption, match=f"--programs_from {tiny_checkpoint}: there is no {MANIFEST_FILE}"):
        export(tiny_checkpoint, programs_from=str(tiny_checkpoint))
    with pytest.raises(PixArtNeuronError, match="--programs_from"):
        export(tiny_checkpoint, programs_from="no such/folder at all")
    damaged = tmp_path / "damaged"
    shutil.copytree(first, damaged)
    (damaged / "transformer" / "model.neuron").write_bytes(b"?")
    with pytest.raises(ArtifactError, match="transformer/model.neuron is not what neuron_manifest.json lists"):
        export(tiny_checkpoint, tmp_path / "out", programs_from=str(damaged))
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
def test_at_one_rank(export, tiny_checkpoint, fine_tuned, tmp_path):
    """Transformer and decoder hold their weights in their files; names as attn1 are replaced, too."""
    one = {"tensor_parallel_size": 1, "vae_parallel": "one"}
    base = export(tiny_checkpoint, tmp_path / "one", **one)
    assert base.calls == len(base.compiled) and "transformer" in base.compiled
    tuned = export(fine_tuned, **one)
    assert (tuned.compiled, tuned.taken, tuned.calls) == ([], ALL, 0)
    before, now = held_weights(base.folder, "transformer"), held_weights(tuned.folder, "transformer")
    assert any("attn1" in name for name in now) and before.keys() == now.keys()
    checkpoint = load_file(fine_tuned / "transformer" / "diffusion_pytorch_model.safetensors")
    compared = [name for name in now if name in checkpoint]
    assert len(compared) > 20
    assert all(torch.equal(now[name], checkpoint[name].to(now[name].dtype)) for name in compared)


def test_a_program_that_does_not_take_a_weight(export, tiny_checkpoint, first, monkeypatch, tmp_path):
    """As optimum-neuron's own wrapper of `replace_weights` leaves out most of PixArt's names."""
    import torch_neuronx

    real = torch_neuronx.replace_weights

    def without_digits(program, weights):
        real(program, {name: tensor for name, tensor in weights.items() if not re.search(r"\w\d+", name)})

    monkeypatch.setattr(torch_neuronx, "replace_weights", without_digits)
    with pytest.raises(PixArtNeuronError, match=r"vae_decoder: the program took \d+ of \d+ weights .*, not "):
        export(tiny_checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()

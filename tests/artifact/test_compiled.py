"""What a compiled component says of itself, and what cannot be believed of it."""

import json

import pytest

from optimum_pixart_neuron.artifact.compiled import Compiled, Parallel, shard_files
from optimum_pixart_neuron.errors import ArtifactError
from optimum_pixart_neuron.validation.programs import open_compiled

STOCK = {"static_batch_size": 2, "static_height": 32, "static_width": None, "tensor_parallel_size": 4}
OURS = {**STOCK, "torch_dtype": "float32", "parallel": {"mode": "context", "ranks": 2, "guided": True}}


def test_sections_of_both_exporters():
    stock, ours = Compiled(**STOCK), Compiled(**OURS)
    assert (stock.is_ours, stock.ranks, stock.batch, stock.sizes) == (False, 4, 2, {"batch_size": 2, "height": 32})
    assert (ours.is_ours, ours.ranks, ours.batch) == (True, 2, 4)
    assert (stock.weights_dtype, Compiled(float_dtype="bf16").weights_dtype) == ("float32", "bfloat16")


def test_what_is_written_is_what_was_there_and_nothing_else():
    section = {**OURS, "optlevel": "1", "compiler_type": "neuronx-cc"}
    written = Compiled(**section).into({"sample_size": 32})
    assert written == {"sample_size": 32, "neuron": section}
    copies = Compiled(parallel=Parallel(mode=None, ranks=1, guided=False)).into({})
    assert copies["neuron"]["parallel"] == {"mode": None, "ranks": 1, "guided": False}


@pytest.mark.parametrize("cast", ["none", None])
def test_no_cast_is_no_cast_however_it_is_said(cast):
    """A float32 export would be judged by the limit of bfloat16, 300 times looser."""
    assert Compiled(**OURS, auto_cast=cast).precision == "float32"
    assert Compiled(**OURS, auto_cast="matmul").precision == "bfloat16"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"static_height": "32"}, "static_height is '32', no size"),
        ({"static_batch_size": 0}, "static_batch_size is 0, no size"),
        ({"tensor_parallel_size": 1 << 30}, "tensor_parallel_size: .*less than or equal to 1024"),
        ({"parallel": {"mode": "context"}}, "neuron has no parallel.ranks"),
    ],
)
def test_a_section_that_cannot_be_is_refused(tmp_path, change, message):
    (tmp_path / "config.json").write_text(json.dumps({"neuron": {**OURS, **change}}))
    with pytest.raises(ArtifactError, match=message):
        Compiled.read(tmp_path)


def test_a_component_that_is_not_compiled_has_none(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert Compiled.read(tmp_path) is None


def test_weight_files_are_named_as_the_stock_loader_looks_for_them(tmp_path):
    names = [path.relative_to(tmp_path).as_posix() for path in shard_files(tmp_path, 2)]
    assert names == [f"weights/tp{rank}_sharded_checkpoint.safetensors" for rank in range(2)]


def test_an_unknown_instance_is_blamed_on_the_folder_that_names_it(tmp_path, monkeypatch):
    """It was blamed on NEURON_EMULATOR_INSTANCE, which nobody had set."""
    monkeypatch.delenv("NEURON_EMULATOR_INSTANCE", raising=False)
    for name in ("text_encoder", "transformer", "vae_decoder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.neuron").touch()
        config = {"neuron": {**OURS, "instance_type": "trn9"}}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=f"{tmp_path} is compiled for an unknown instance 'trn9': known are inf2"):
        open_compiled(tmp_path)

"""Weight files as people have them: variants, shards, former names, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.checkpoint.weights import ComponentWeights, WeightNames
from optimum_pixart_neuron.components.registry import PARTS
from optimum_pixart_neuron.errors import CheckpointError
from tests.tiny import build_tiny_checkpoint

from ..checkpoints import fetched, opened, refused, with_former_names
from ..e2e.conftest import describe
from ..hub.exports import content

STEMS = {name: part.weights for name, part in PARTS.items() if part.weights is not None}


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("size", ["150KB", "10GB"])
def test_files_as_save_pretrained_writes_them(parts, tmp_path, variant, size):
    folder = build_tiny_checkpoint(tmp_path / "saved", variant=variant, max_shard_size=size)
    checkpoint = fetched(folder, variant=variant)
    for component, stem in STEMS.items():
        weights = checkpoint.weights(component)
        original = load_file(parts.whole / component / f"{stem}.safetensors")
        assert set(weights.files) == set(original)
        assert all(torch.equal(weights.read(name), original[name]) for name in original)
        assert len(set(weights.files.values())) == 1 or size == "150KB"
        named = WeightNames.among(checkpoint.sources[component].files, stem, variant)
        assert {path.name for path in weights.files.values()} == set(named.files)


def test_a_sharded_variant_as_diffusers_wrote_it_before(parts, tmp_path):
    folder = build_tiny_checkpoint(tmp_path / "saved", variant="fp16", max_shard_size="150KB") / "transformer"
    stem = STEMS["transformer"]
    index = folder / f"{stem}.safetensors.index.fp16.json"
    text = index.read_text()
    for shard in folder.glob("*.safetensors"):
        former = shard.name.replace(".fp16", "").replace(".safetensors", ".fp16.safetensors")
        text = text.replace(shard.name, former)
        shard.rename(folder / former)
    index.unlink()
    (folder / f"{stem}.safetensors.fp16.index.json").write_text(text)
    names = [path.name for path in folder.iterdir()]
    weights = ComponentWeights.find(folder, stem, "fp16")
    assert {path.name for path in weights.files.values()} == set(WeightNames.among(names, stem, "fp16").files)
    assert set(weights.files) == set(load_file(parts.whole / "transformer" / f"{stem}.safetensors"))


def test_a_variant_that_only_some_components_have(parts, whole):
    folder = whole / "transformer"
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    checkpoint = fetched(whole, variant="fp16")
    assert checkpoint.notes == ("text_encoder, vae: no fp16 weights, the plain ones are taken",)
    variants = {name: checkpoint.sources[name].variant for name in STEMS}
    assert variants == {"text_encoder": None, "transformer": "fp16", "vae": None}
    stem = "diffusion_pytorch_model"
    assert f"{stem}.safetensors is missing (found {stem}.fp16.safetensors" in refused(whole)
    said = refused(whole, variant="bf16")
    assert "model.bf16.safetensors is missing (found model.safetensors; change --variant)" in said


def test_former_names_of_the_vaes_attention(whole):
    (path,) = (whole / "vae").glob("*.safetensors")
    today = load_file(path)
    with_former_names(path)
    assert len(set(load_file(path)) - set(today)) == 16  # weights and biases of the encoder's and the decoder's
    weights = opened(whole).weights("vae")
    assert set(weights.files) == set(today)
    assert all(torch.equal(weights.read(name), today[name]) for name in today)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickled_weights_are_refused_with_the_reason(whole, name):
    (whole / "text_encoder" / name).touch()
    assert "model.fp16.safetensors is missing (found model.safetensors" in refused(whole, variant="fp16")
    fetched(whole)
    (whole / "text_encoder" / "model.safetensors").unlink()
    assert refused(whole) == (
        f"{whole / 'text_encoder'} holds only .bin weights; pickled files can run code, convert them to"
        " model.safetensors first"
    )


def test_quantised_weights_are_refused(whole):
    file = whole / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["proj_out.weight"] = weights["proj_out.weight"].to(torch.int8)
    save_file(weights, file)
    found = opened(whole).weights("transformer")
    with pytest.raises(CheckpointError, match="weight proj_out.weight is stored as I8; .* before it was quantised"):
        found.shape("proj_out.weight")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The weight files of two ranks without the compilation: `shards(model, **options)` -> {component/file: bytes}."""

    def write(model, **options) -> dict[str, bytes]:
        from optimum_pixart_neuron.parallel.shard_writer import write_shards

        folder = tmp_path_factory.mktemp("shards")
        _, components = describe(model, tensor_parallel_size=2, **options)
        for name, component in components.items():
            files = [folder / name / f"{rank}.safetensors" for rank in range(component.ranks)]
            write_shards(component.weights(), component.read_weight, files, title="")
        return content(folder)

    return write


@pytest.mark.seconds
def test_shards_are_the_same_wherever_the_components_come_from(parts, shards, tmp_path):
    expected = shards(parts.whole)
    assert {name.split("/")[0] for name in expected} == {"text_encoder", "transformer", "vae_decoder"}
    assert shards(parts.alone, components_model=parts.rest) == expected
    assert shards(parts.rest, transformer=parts.alone / "transformer") == expected
    pieces = build_tiny_checkpoint(tmp_path / "pieces", max_shard_size="150KB")
    assert shards(pieces) == expected
    other = build_tiny_checkpoint(tmp_path / "other", seed=7)
    assert shards(other, text_encoder=parts.whole, transformer=parts.whole, components_model=parts.whole) != expected


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("stored", "wanted"), [(torch.float16, "bfloat16"), (torch.bfloat16, "float32"), (torch.float32, "bfloat16")]
)
def test_weights_of_any_float_type_are_cast_to_the_exports(shards, tmp_path, stored, wanted):
    folder = build_tiny_checkpoint(tmp_path / "stored", dtype=stored)
    source = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert source["proj_out.weight"].dtype == stored
    expected = {name: tensor.to(getattr(torch, wanted)) for name, tensor in source.items()}
    written = tmp_path / "rank0.safetensors"
    written.write_bytes(shards(folder, torch_dtype=wanted)["transformer/0.safetensors"])
    found = load_file(written)
    assert set(expected) <= set(found)
    assert all(torch.equal(found[name], expected[name]) for name in expected)

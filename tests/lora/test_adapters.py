"""Adapters of every form: read, merged, or refused by the name of what is wrong."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.checkpoint.open import open_checkpoint
from optimum_pixart_neuron.checkpoint.options import CheckpointOptions
from optimum_pixart_neuron.errors import CheckpointError, InvalidExportOption

from ..refusals import refusal
from .adapters import (
    MODULES,
    TEXT_MODULES,
    matrices,
    merged_by_hand,
    weights_of,
    write_diffusers,
    write_kohya,
    write_peft,
)

Q = "transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def made(tiny_checkpoint):
    return matrices(weights_of(tiny_checkpoint))


def opened(checkpoint, *loras, **options):
    return open_checkpoint(
        CheckpointOptions(model=str(checkpoint), lora_model_ids=[str(each) for each in loras], **options)
    )


def assert_merged(checkpoint, expected, component="transformer") -> None:
    """The weights that are changed are these, and all others those of the files."""
    weights, plain = checkpoint.weights(component), weights_of(checkpoint.sources[component].folder.parent, component)
    for name in weights.files:
        if name in expected:
            torch.testing.assert_close(weights.read(name), expected[name].float(), atol=1e-6, rtol=1e-6)
        else:
            assert torch.equal(weights.read(name), plain[name])
    assert expected.keys() <= weights.files.keys()


FORMS = {
    "peft": (lambda place, made: write_peft(place, made, lora_alpha=2), 0.5),
    "peft, rslora": (lambda place, made: write_peft(place, made, lora_alpha=2, use_rslora=True), 1.0),
    "peft, the script's second file": (
        lambda place, made: write_peft(place, made, prefix="unet.base_model.model."),
        1,
    ),
    "diffusers": (write_diffusers, 1.0),
    "diffusers, with settings": (lambda place, made: write_diffusers(place, made, metadata={"lora_alpha": 8}), 2.0),
    "kohya": (lambda place, made: write_kohya(place / "a.safetensors", made, alpha=1.0), 0.25),
    "kohya, older prefix": (lambda place, made: write_kohya(place / "a.safetensors", made, start="lora_unet_"), 1.0),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_merged(tiny_checkpoint, tmp_path, made, form):
    write, scale = FORMS[form]
    checkpoint = opened(tiny_checkpoint, write(tmp_path / "lora", made), lora_scales=0.5)
    assert_merged(checkpoint, merged_by_hand(weights_of(tiny_checkpoint), made, 0.5 * scale))
    assert any("LoRA default_0: " in note and note.endswith("10 of the transformer") for note in checkpoint.notes)


def test_adapters_add_up_and_the_text_encoder_has_its_own(tiny_checkpoint, tmp_path, made):
    text = matrices(weights_of(tiny_checkpoint, "text_encoder"), TEXT_MODULES, seed=1)
    other = matrices(weights_of(tiny_checkpoint), MODULES[:5], rank=2, seed=2)
    first = write_kohya(tmp_path / "first.safetensors", made, alpha=4.0, more=text)
    second = write_diffusers(tmp_path / "second", other)
    checkpoint = opened(tiny_checkpoint, first, second, lora_scales=[1, -0.5], lora_adapter_names=["a", "b"])
    plain = weights_of(tiny_checkpoint)
    once = plain | merged_by_hand(plain, made, 1.0)
    assert_merged(checkpoint, merged_by_hand(plain, made, 1.0) | merged_by_hand(once, other, -0.5))
    assert_merged(checkpoint, merged_by_hand(weights_of(tiny_checkpoint, "text_encoder"), text, 1.0), "text_encoder")
    assert [(each.name, each.scale, each.number) for each in checkpoint.adapters] == [("a", 1.0, 0), ("b", -0.5, 1)]


def test_alpha_of_single_modules(tiny_checkpoint, tmp_path, made):
    folder = write_peft(tmp_path, made, lora_alpha=4, alpha_pattern={"attn1.to_q": 8, r"^proj_out$": 2, "out": 99})
    plain, scales = weights_of(tiny_checkpoint), {Q: 2.0, "proj_out": 0.5}
    expected = {}
    for module, pair in made.items():
        expected |= merged_by_hand(plain, {module: pair}, scales.get(module, 1.0))
    assert_merged(opened(tiny_checkpoint, folder), expected)


@pytest.mark.parametrize("columns", [False, True])
def test_norms_of_rows_and_of_columns(tiny_checkpoint, tmp_path, made, columns):
    """kohya's `dora_scale`, whose shape says what it is of."""
    file = write_kohya(tmp_path / "a.safetensors", {Q: made[Q]}, alpha=2.0)
    summed = merged_by_hand(weights_of(tiny_checkpoint), {Q: made[Q]}, 0.5)[f"{Q}.weight"]
    norms = torch.rand((1, 64) if columns else (64, 1), generator=torch.Generator().manual_seed(3)) + 0.5
    save_file(load_file(file) | {"lora_transformer_transformer_blocks_0_attn1_to_q.dora_scale": norms}, file)
    expected = summed * norms / summed.norm(dim=0 if columns else 1, keepdim=True)
    assert_merged(opened(tiny_checkpoint, file), {f"{Q}.weight": expected})


START = f"base_model.model.{Q}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model.model.proj_out.bias": torch.zeros(32)}, "has the tensor base_model.model.proj_out.bias"),
        ({f"{START}.lora_B.bias": torch.zeros(64)}, f"has the tensor {START}.lora_B.bias, which no LoRA"),
        ({f"{START}.hada_w1_a": torch.zeros(64, 4)}, "hada_w1_a, which no LoRA of the form of peft has"),
        (
            {"base_model.model.nothing.lora_A.weight": torch.zeros(4, 64)},
            "a module that the transformer or text_encoder",
        ),
        ({f"{START.replace('0', '7')}.lora_A.weight": torch.zeros(4, 64)}, "is for a module that the transformer"),
        ({f"{START}.lora_B.weight": None}, f"only one of the two matrices for {Q}.weight: {START}.lora_A.weight"),
        ({f"{START}.lora_A.weight": torch.zeros(4, 65)}, r"have shapes \(4, 65\) and \(64, 4\)"),
        (
            {f"{START}.lora_B.weight": torch.zeros(64, 3)},
            r"a weight of \(64, 64\) needs \(rank, 64\) and \(64, rank\)",
        ),
        ({f"{START}.lora_A.weight": torch.zeros(0, 64)}, r"have shapes \(0, 64\)"),
        ({f"{START}.lora_A.weight": torch.zeros(4, 64, dtype=torch.int8)}, "is stored as I8; take a float type"),
        ({f"{START}.lora_magnitude_vector": torch.ones(64)}, "use_dora is False in its configuration"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tiny_checkpoint, tmp_path, made, change, message):
    file = write_peft(tmp_path, {Q: made[Q]}) / "adapter_model.safetensors"
    tensors = load_file(file) | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
    with pytest.raises(CheckpointError, match=message):
        opened(tiny_checkpoint, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"bias": "all"}, "bias"),
        ({"lora_alpha": float("inf")}, "lora_alpha"),
        ({"use_dora": True}, "use_dora is True in its configuration, and .* has none"),
        ({"modules_to_save": ["proj_out"]}, "modules_to_save is set, which is not merged here"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is set"),
        ({"a_new_kind": {"x": 1}}, "a_new_kind is set"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is pissa_niter_4, which changes the base"),
        ({"alpha_pattern": {"(a+)+$": 1}}, r"alpha_pattern: \(a\+\)\+\$ is a regular expression"),
    ],
)
def test_settings_that_cannot_be_merged_are_named(tiny_checkpoint, tmp_path, made, settings, message):
    with pytest.raises(CheckpointError, match=message):
        opened(tiny_checkpoint, write_peft(tmp_path, made, **settings))


def test_what_peft_writes_without_meaning_is_taken(tiny_checkpoint, tmp_path, made):
    empty = {"modules_to_save": None, "loftq_config": {}, "megatron_core": "megatron.core", "eva_config": None}
    opened(tiny_checkpoint, write_peft(tmp_path, made, init_lora_weights="gaussian", lora_dropout=0.1, **empty))


def test_numbers_that_are_none_are_refused(tiny_checkpoint, tmp_path, made):
    down, up = made[Q]
    broken = write_diffusers(tmp_path, {Q: (down.clone().fill_(torch.nan), up)})
    with pytest.raises(
        CheckpointError, match=f"tensor transformer.{Q}.lora_A.weight holds numbers that are not finite"
    ):
        opened(tiny_checkpoint, broken)
    broken = write_kohya(tmp_path / "b.safetensors", made, alpha=float("inf"))
    with pytest.raises(CheckpointError, match=r"tensor lora_transformer_\w+.alpha holds numbers that are not finite"):
        opened(tiny_checkpoint, broken)


@pytest.mark.seconds
def test_places_that_hold_no_adapter(tiny_checkpoint, tmp_path, made):
    refused = partial(refusal, CheckpointError, opened, tiny_checkpoint)
    assert "--lora_model_ids ./nowhere: no such folder" in refused("./nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no .safetensors file; name one" in refused(empty)
    (empty / "adapter_model.bin").touch()
    assert "adapter_model.bin is pickled, and pickled files can run code" in refused(empty)
    assert "x.ckpt is pickled" in refused(empty, lora_weight_names="x.ckpt")
    two = write_kohya(tmp_path / "two" / "a.safetensors", made).parent
    write_kohya(two / "b.safetensors", made)
    assert "holds several files of weights; name one (found a.safetensors, b.safetensors)" in refused(two)
    assert "holds no c.safetensors (found a.safetensors" in refused(two, lora_weight_names="c.safetensors")
    assert "../a.safetensors is no file inside it" in refused(two, lora_weight_names="../a.safetensors")
    assert opened(tiny_checkpoint, two, lora_weight_names="b.safetensors").adapters[0].file == "b.safetensors"
    assert "is a file, and b.safetensors another" in refused(two / "a.safetensors", lora_weight_names="b.safetensors")
    (two / "a.safetensors").write_bytes(b"\xff" * 64)
    assert "is not a readable safetensors file: its header of" in refused(two, lora_weight_names="a.safetensors")
    alone = write_peft(tmp_path / "alone", made)
    (alone / "adapter_config.json").unlink()
    assert "the adapter_config.json that says its scale is not beside it" in refused(alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_scales": [1, 2]}, "--lora_scales: 2 given, --lora_model_ids has 1; give one for each"),
        ({"lora_scales": ["big"]}, "--lora_scales"),
        ({"lora_scales": [float("nan")]}, "--lora_scales"),
        ({"lora_adapter_names": ["a", "a"], "lora_model_ids": ["x", "y"]}, "two of one name"),
    ],
)
def test_options_that_do_not_fit_each_other(options, message):
    with pytest.raises(InvalidExportOption, match=message):
        CheckpointOptions(**{"model": "m", "lora_model_ids": ["x"], **options})


def test_a_header_that_is_no_object(tiny_checkpoint, tmp_path, made):
    file = write_diffusers(tmp_path, made) / "pytorch_lora_weights.safetensors"
    save_file(load_file(file), file, metadata={"lora_adapter_metadata": json.dumps([1])})
    with pytest.raises(CheckpointError, match="lora_adapter_metadata in its header is not a JSON object"):
        opened(tiny_checkpoint, tmp_path)

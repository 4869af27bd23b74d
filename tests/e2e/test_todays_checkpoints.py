"""A checkpoint as today's and earlier libraries save them, exported and loaded by both classes.

transformers 5 writes tokenizer.json alone while the index says T5Tokenizer, newer keys and other words for dtypes;
diffusers before 0.16 named the VAE's attention otherwise; an index may list components that PixArt-Sigma lacks.
"""

import json
import shutil
from pathlib import Path

import pytest

from ..checkpoints import rewrite, saved_by_transformers_5, with_former_names
from ..parity import psnr
from .conftest import PROMPTS, load_ours, load_stock, picture

pytestmark = [pytest.mark.e2e, pytest.mark.ranks, pytest.mark.soak]

MORE = {"feature_extractor": ["transformers", "CLIPImageProcessor"], "tokenizer_2": ["transformers", "T5Tokenizer"]}
TEXTS = [*PROMPTS, "", "a photo of  an astronaut <extra_id_3> riding a horse! \ufb01 \u2460 \u00e9"]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint, tmp_path_factory) -> Path:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("today") / "checkpoint"))
    saved_by_transformers_5(folder / "tokenizer")
    for part in ("text_encoder", "transformer", "vae"):
        content = json.loads((folder / part / "config.json").read_text())
        newer = {"dtype": "bf16", "quantization_config": None}
        (folder / part / "config.json").write_text(json.dumps({**content, **newer}))
    with_former_names(next((folder / "vae").glob("*.safetensors")))
    rewrite(folder / "model_index.json", **MORE)
    for name in MORE:
        (folder / name).mkdir()
        (folder / name / "evil.py").write_text("raise SystemExit('it ran')\n")
    return folder


@pytest.fixture(scope="module")
def folder(checkpoint, exported) -> Path:
    return exported(model=str(checkpoint), tensor_parallel_size=2, torch_dtype="float32")


@pytest.mark.parametrize("load", [load_ours, load_stock])
def test_both_classes_draw_the_same_with_the_same_ids(folder, reference, load):
    pipe = load(folder)
    assert pipe.tokenizer(TEXTS).input_ids == reference.tokenizer(TEXTS).input_ids
    assert psnr(picture(pipe), picture(reference)) >= 55


def test_what_is_in_the_export(folder):
    assert sorted(path.name for path in (folder / "tokenizer").iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    index = json.loads((folder / "model_index.json").read_text())
    assert index["tokenizer"] == ["transformers", "T5TokenizerFast"]
    assert not set(MORE).intersection(index, (path.name for path in folder.iterdir()))

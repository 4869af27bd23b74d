"""Checkpoints cut up, put into a download cache, and opened, as people have them."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from optimum_pixart_neuron.checkpoint.checkpoint import PixArtCheckpoint
from optimum_pixart_neuron.checkpoint.open import fetch_weights, open_checkpoint
from optimum_pixart_neuron.checkpoint.options import CheckpointOptions
from optimum_pixart_neuron.errors import CheckpointError

from .refusals import refusal

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def opened(model: Path | str, **options) -> PixArtCheckpoint:
    return open_checkpoint(CheckpointOptions(model=model, **options))


def fetched(model: Path | str, **options) -> PixArtCheckpoint:
    """As an export has it before it compiles: opened, its tokenizer and scheduler tried, and its weights found."""
    asked = CheckpointOptions(model=model, **options)
    checkpoint = open_checkpoint(asked)
    checkpoint.check_copied()
    fetch_weights(asked, checkpoint)
    return checkpoint


refused = partial(refusal, CheckpointError, fetched)
"""The one line with which an export of a checkpoint is refused before it compiles."""


def rewrite(path: Path, **changes) -> None:
    """Change keys of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def change_weights(file: Path, changes: dict) -> None:
    """Change tensors of a safetensors file; None removes one."""
    from safetensors.torch import load_file, save_file

    tensors = {**load_file(file), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file, {"format": "pt"})


@dataclass(frozen=True)
class Parts:
    """A checkpoint cut up as the released ones are.

    Attributes:
        whole: all of it.
        alone: `transformer/` and nothing else, with the keys of the released config.json.
        rest: everything but the transformer, with an index that names PixArt-Alpha.
    """

    whole: Path
    alone: Path
    rest: Path

    @classmethod
    def of(cls, whole: Path, folder: Path) -> "Parts":
        alone, rest = folder / "alone", folder / "rest"
        shutil.copytree(whole / "transformer", alone / "transformer")
        config = alone / "transformer" / "config.json"
        rewrite(config, _class_name="Transformer2DModel", use_additional_conditions=None, double_self_attention=False)
        shutil.copytree(whole, rest, ignore=shutil.ignore_patterns("transformer"))
        rewrite(rest / "model_index.json", _class_name="PixArtAlphaPipeline", _diffusers_version="0.22.0.dev0")
        return cls(whole=whole, alone=alone, rest=rest)


def cache(folder: Path, repository: str, content: Path, commit: str = COMMIT) -> Path:
    """Put a checkpoint into a cache, in the layout of huggingface_hub; returns its snapshot."""
    home = folder / f"models--{repository.replace('/', '--')}"
    for path in sorted(path for path in content.rglob("*") if path.is_file()):
        blob = home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        link = home / "snapshots" / commit / path.relative_to(content)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return home / "snapshots" / commit


def with_former_names(weights: Path) -> None:
    """Give the VAE's attention the names that diffusers before 0.16 had; today's renames them while it loads."""
    from safetensors.torch import load_file, save_file

    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = load_file(weights)
    for today, former in names.items():
        tensors = {name.replace(today, former): tensor for name, tensor in tensors.items()}
    save_file(tensors, weights)


def saved_by_transformers_5(tokenizer: Path) -> None:
    """Turn a tokenizer's folder into what transformers 5.24 makes of it: recorded from its `save_pretrained`."""
    from transformers import T5TokenizerFast

    T5TokenizerFast.from_pretrained(tokenizer).save_pretrained(tokenizer)
    file = json.loads((tokenizer / "tokenizer.json").read_text())
    metaspace = file["pre_tokenizer"]
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]}
    file["normalizer"] = file["normalizer"]["normalizers"][0]
    (tokenizer / "tokenizer.json").write_text(json.dumps(file))
    for name in ("spiece.model", "special_tokens_map.json", "added_tokens.json"):
        (tokenizer / name).unlink(missing_ok=True)
    extra = [f"<extra_id_{number}>" for number in range(100)]
    new = {"backend": "tokenizers", "extra_special_tokens": extra, "is_local": True, "local_files_only": False}
    gone = ("added_tokens_decoder", "additional_special_tokens")
    settings = {"tokenizer_class": "T5Tokenizer", "sp_model_kwargs": {}, "unk_id": 2, "add_prefix_space": True}
    rewrite(tokenizer / "tokenizer_config.json", **settings, **new, **dict.fromkeys(gone))

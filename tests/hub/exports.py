"""Folders that look like exports: a manifest and small files in the stock layout, made without any compilation."""

import json
from pathlib import Path

from optimum_pixart_neuron.artifact.manifest import Manifest, listed_files
from optimum_pixart_neuron.artifact.manifest_records import (
    ComponentRecord,
    SourceRecord,
    TensorRecord,
    ValidationRecord,
)
from optimum_pixart_neuron.files import FileRecord

SHARD_BYTES = 200_000
_VALIDATION = ValidationRecord(
    component="transformer", max_error=0.01234, cosine=0.999987, psnr=48.0, limit="0.05, bfloat16", passed=True
)


def stock_files(ranks: int, seed: int = 0) -> dict[str, bytes]:
    """Content of an export in the stock layout, by path; `seed` changes the weights of the transformer alone."""
    components = ("text_encoder", "transformer", "vae_decoder")
    index = {"_class_name": "PixArtSigmaPipeline", "scheduler": ["diffusers", "S"], "tokenizer": ["transformers", "T"]}
    index |= {"text_encoder": ["t", "T5"], "transformer": ["d", "P"], "vae": ["d", "A"]}
    files = {
        "model_index.json": json.dumps(index).encode(),
        "scheduler/scheduler_config.json": b"{ }",
        "tokenizer/spiece.model": b"\0pieces",
        "tokenizer/tokenizer_config.json": b"{}",
    }
    for number, name in enumerate(components):
        config = {"name": name, "neuron": {"tensor_parallel_size": ranks}}
        files |= {f"{name}/config.json": json.dumps(config).encode()}
        files |= {f"{name}/model.neuron": f"\0program of {name}".encode()}
        if name != "vae_decoder":
            for rank in range(ranks):
                changed = seed if name == "transformer" else 0
                start = bytes([number, rank, changed])
                files[f"{name}/weights/tp{rank}_sharded_checkpoint.safetensors"] = start + bytes(SHARD_BYTES)
    return files


def make_export(folder: Path, *, ranks: int = 4, seed: int = 0, **changes) -> Manifest:
    """Write an export with a manifest; `changes` are to the manifest's fields."""
    for name, content in stock_files(ranks, seed).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    records = {name: FileRecord.of(folder / name) for name in listed_files(folder)}
    manifest = manifest_of(ranks, **changes, files=records)
    manifest.write(folder)
    return manifest


def manifest_of(ranks: int = 4, **changes) -> Manifest:
    """What such an export says of itself, but for `changes`."""
    fields = {
        "model": "PixArt-alpha/PixArt-Sigma",
        "revision": "ab" * 20,
        "instance": "trn2.48xlarge",
        "target": "trn2",
        "lnc": 2,
        "ranks": ranks,
        "parallel_mode": "context",
        "emulated": False,
        "options": {"tensor_parallel_size": ranks},
        "versions": {"optimum-neuron": "0.4.5", "neuronx-cc": "2.21.33363.0"},
        "components": components(ranks),
        "validation": (_VALIDATION,),
        "files": {},
    }
    return Manifest(**{**fields, **changes})


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def components(ranks: int) -> dict[str, ComponentRecord]:
    """Records of the programs of a pipeline for 512 x 256 pixels, one prompt of 300 tokens."""
    borders = {
        "text_encoder": (("input_ids", (1, 300), "int64"), ("last_hidden_state", (1, 300, 64), "float32")),
        "transformer": (("hidden_states", (2, 4, 64, 32), "float32"), ("sample", (2, 8, 64, 32), "float32")),
        "vae_decoder": (("latent_sample", (1, 4, 32, 32), "float32"), ("sample", (1, 3, 256, 256), "float32")),
    }
    source = SourceRecord(model="PixArt-alpha/PixArt-Sigma", revision="ab" * 20, files={})
    return {
        name: ComponentRecord(
            ranks=1 if name == "vae_decoder" else ranks,
            inputs=(_tensor(*taken),),
            outputs=(_tensor(*given),),
            source=source,
            inputs_digest="0" * 64,
        )
        for name, (taken, given) in borders.items()
    }


def _tensor(name: str, shape: tuple[int, ...], dtype: str) -> TensorRecord:
    return TensorRecord(name=name, shape=shape, dtype=dtype)

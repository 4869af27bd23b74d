"""Checkpoints cut up, and put into a download cache, as people have them."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def rewrite(path: Path, **changes) -> None:
    """Change keys of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


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

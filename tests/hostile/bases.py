"""What a stranger starts from: a whole export and a whole checkpoint, small, and made without compiling."""

import io
import os
import shutil
from pathlib import Path

EXPORT, STOCK, CHECKPOINT, LORA = "export", "export without manifest", "checkpoint", "LoRA"
TARGETS = (EXPORT, STOCK, CHECKPOINT)
"""What most kinds are made on."""
LORA_FOLDERS = ("lora/peft", "lora/kohya")
"""Of the checkpoint of a LoRA, whose own files are left alone."""
SHARDED = ("text_encoder", "transformer")
RANKS = 2
_TRACED = (1, 4)


def make_bases(folder: Path) -> dict[str, Path]:
    """One of each target."""
    from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE
    from optimum_pixart_neuron.neuron.sdk import ensure_sdk
    from tests.tiny import build_tiny_checkpoint

    from ..faults.actions import CHECKPOINT_SIZES
    from ..runtime.stand_in import Geometry, write_export

    ensure_sdk()
    found = {target: folder / target for target in (*TARGETS, LORA)}
    write_export(found[STOCK], Geometry(ranks=RANKS, width=CHECKPOINT_SIZES["caption_dim"]))
    archives = good_archives()
    for program in found[STOCK].glob("*/model.neuron"):
        program.write_bytes(archives["ranks" if program.parent.name in SHARDED else "one core"])
    for component in SHARDED:
        for rank in range(RANKS):
            write_shard(found[STOCK] / component / "weights" / f"tp{rank}_sharded_checkpoint.safetensors", rank)
    link_tree(found[STOCK], found[EXPORT])
    write_manifest(found[EXPORT])
    assert (found[EXPORT] / MANIFEST_FILE).is_file()
    build_tiny_checkpoint(found[CHECKPOINT], **CHECKPOINT_SIZES)
    link_tree(found[CHECKPOINT], found[LORA])
    write_adapters(found[LORA])
    return found


def write_adapters(checkpoint: Path) -> None:
    """One of peft's with its configuration, and one of kohya's with numbers in tensors of their own."""
    from ..lora.adapters import matrices, weights_of, write_kohya, write_peft

    peft, kohya = (checkpoint / each for each in LORA_FOLDERS)
    made = matrices(weights_of(checkpoint), ("proj_out", "transformer_blocks.0.attn1.to_q"))
    write_peft(peft, made)
    write_kohya(kohya / "lora.safetensors", made, alpha=4.0)


def link_tree(source: Path, target: Path) -> None:
    """The same files under another folder; who changes one makes it anew."""
    shutil.copytree(source, target, copy_function=os.link)


def write_shard(path: Path, rank: int) -> None:
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(exist_ok=True)
    save_file({"a.weight": torch.full((64, 64), float(rank)), "a.bias": torch.ones(64)}, path)


def write_manifest(folder: Path, listed: tuple[str, ...] = ()) -> None:
    """A manifest of what lies in a folder of the known files, with right digests, and of what else is to be listed."""
    from optimum_pixart_neuron.artifact.expected_files import is_known
    from optimum_pixart_neuron.artifact.manifest import listed_files
    from optimum_pixart_neuron.files import FileRecord

    from ..hub.exports import manifest_of

    names = [name for name in listed_files(folder) if is_known(name) or name in listed]
    machine = {"instance": "trn1.32xlarge", "target": "trn1", "lnc": 1, "emulated": True, "versions": {}}
    manifest_of(
        RANKS, **machine, revision=None, validation=(), files={name: FileRecord.of(folder / name) for name in names}
    ).write(folder)


def good_archives() -> dict[str, bytes]:
    """Programs of a few operations, as the emulator saves them: one of both ranks, and one of one core."""
    import torch
    from torch import nn

    from optimum_pixart_neuron.emulator.program import Program
    from optimum_pixart_neuron.emulator.single_core import build_module
    from optimum_pixart_neuron.emulator.spmd import build_executor

    class Sum(nn.Module):
        def forward(self, x):
            return {"y": torch.ops.neuron_emulator.all_reduce(x * 2, "sum", 1.0, [0, 1], RANKS)}

    given = (torch.ones(_TRACED),)
    layer = nn.Linear(4, 3)
    modules = {
        "ranks": build_executor({"only": [Program.compile(Sum(), given, world_size=RANKS)]}, world_size=RANKS),
        "one core": build_module(Program.compile(layer, given), layer.state_dict(), inline_weights=False),
    }
    return {name: saved(module) for name, module in modules.items()}


def saved(module) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()

"""Which files an export has, by their paths in it: nothing else of a folder or repository is loaded, sent or fetched.

It is the layout of optimum-neuron 0.4.5. A path that is not known is never opened, whatever a manifest says of it:
what optimum-neuron, diffusers and transformers do with files of other names includes running them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..checkpoint.layout import INDEX
from ..components.registry import COMPONENTS, PARTS
from .compiled import CONFIG_FILE, PROGRAM_FILE, PROGRAM_PATH, SHARD_NAME, WEIGHTS_FOLDER, shard_files

_FOREIGN = ("unet", "text_encoder_2", "image_encoder", "controlnet*")


def is_known(name: str) -> bool:
    """Whether an export may have a file of this path, with forward slashes; the manifest lists no other."""
    if name == INDEX:
        return True
    folder, _, file = name.partition("/")
    part = PARTS.get(folder)
    if part is not None and part.copied is not None:
        return file in part.copied.FILES
    above, _, shard = file.partition("/")
    is_shard = above == WEIGHTS_FOLDER and SHARD_NAME.fullmatch(shard) is not None
    is_program = PROGRAM_PATH.fullmatch(file) is not None
    return folder in COMPONENTS and (is_shard or is_program or file == CONFIG_FILE)


def known_files(components: Iterable[str], ranks: int) -> list[str]:
    """Every path that an export with these components on so many ranks may have."""
    names = [INDEX]
    for part in PARTS.values():
        names += [f"{part.name}/{file}" for file in part.copied.FILES] if part.copied else []
    for component in components:
        names += [f"{component}/{CONFIG_FILE}", f"{component}/{PROGRAM_FILE}"]
        names += [path.as_posix() for path in shard_files(Path(component), ranks)]
    return names


def loadable(folder: Path) -> list[str]:
    """Files of a folder, by path, that a loader could take for a part of an export.

    Besides the known ones these are programs and weights in folders of any name, and the configurations of what
    optimum-neuron 0.4.5 `NeuronDiffusionPipelineBase._from_pretrained` loads beside PixArt-Sigma's components.
    """
    program = Path(PROGRAM_FILE).suffix
    patterns = [f"*/*{program}", f"*/*/*{program}", f"*/{WEIGHTS_FOLDER}/*.safetensors"]
    patterns += [f"{name}/*" for name in _FOREIGN]
    found = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
    known = [name for name in known_files(COMPONENTS, 0) if os.path.lexists(folder / name)]
    return sorted(found.union(known))

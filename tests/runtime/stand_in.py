"""A pipeline of our class whose programs are a few lines of torch: no export, no process group, any geometry.

Each program's rows are independent and each input changes its output, so that a picture shows which noise, prompt,
step and scheduler state it was drawn with.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from optimum_pixart_neuron.artifact.compiled import PROGRAM_FILE, Compiled
from optimum_pixart_neuron.artifact.manifest import MANIFEST_FILE

REAL_EXPORT = Path(__file__).parents[1] / "fixtures" / "export_5d0abc2"
TOKENIZER = REAL_EXPORT / "tokenizer"
SCALE = 8  # pixels a latent cell


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What the programs are compiled for; the defaults are small.

    Attributes:
        side: of the latents, in cells.
        batch: prompts and images of a run.
        tokens: of a prompt.
        width: of a text embedding.
        ranks: that run the transformer together; 1 for copies of it.
        copies: of every program that one core runs.
        ours: whether this package made the export.
        guided: whether the transformer takes the guidance pair.
        dtype: of the transformer's borders, as in config.json.
        others: height and width in cells of further programs.
        half: whether there is a program for one half of the guidance pair too.
    """

    side: int = 32
    batch: int = 1
    tokens: int = 20
    width: int = 16
    ranks: int = 2
    copies: int = 1
    ours: bool = True
    guided: bool = True
    dtype: str = "fp32"
    others: tuple[tuple[int, int], ...] = ()
    half: bool = False

    def programs(self, component: str) -> list[dict]:
        """Those of one component, as config.json lists them; none where there is one only."""
        takes_pair = component == "transformer" and self.guided
        found = []
        for tall, wide in ((self.side, self.side), *self.others) if component != "text_encoder" else ():
            for guided in (True, False) if takes_pair and self.half else (takes_pair,):
                size = f"{tall * SCALE}x{wide * SCALE}"
                further = f"{size}/" if component == "vae_decoder" and found else ""
                axes = {"batch_size": self.batch, "num_channels": 4, "height": tall, "width": wide}
                if component == "transformer":
                    axes |= {"sequence_length": self.tokens, "encoder_hidden_size": self.width}
                found.append(
                    {
                        "name": size if guided or not takes_pair else f"{size}-one-half",
                        "file": f"{further}{PROGRAM_FILE}",
                        "height": tall * SCALE,
                        "width": wide * SCALE,
                        "guided": guided,
                        "axes": axes,
                    }
                )
        return found if len(found) > 1 else []


def write_export(folder: Path, geometry: Geometry) -> Path:
    """A real export changed to the geometry: its tokenizer, scheduler and configurations, and empty programs."""
    shutil.copytree(REAL_EXPORT, folder, ignore=shutil.ignore_patterns("weights", PROGRAM_FILE, MANIFEST_FILE))
    sizes = {"batch_size": geometry.batch, "height": geometry.side, "width": geometry.side}
    sizes |= {"sequence_length": geometry.tokens, "encoder_hidden_size": geometry.width}
    changed = {
        "text_encoder": {"d_model": geometry.width},
        "transformer": {"sample_size": geometry.side, "caption_channels": geometry.width},
        "vae_decoder": {},
    }
    for name, own in changed.items():
        config = json.loads((folder / name / "config.json").read_text())
        section, programs = config["neuron"], geometry.programs(name)
        section |= {f"static_{axis}": size for axis, size in sizes.items() if f"static_{axis}" in section}
        section |= {"tensor_parallel_size": geometry.ranks, "torch_dtype": "float32"}
        way = {"mode": section.pop("parallel")["mode"], "ranks": geometry.ranks, "guided": False, "collectives": {}}
        if name == "transformer":
            section["float_dtype"], way["guided"] = geometry.dtype, geometry.guided
        elif name == "vae_decoder":
            way["ranks"] = 1
        if geometry.ours:
            section |= {"parallel": way, "programs": programs}
        (folder / name / "config.json").write_text(json.dumps({**config, **own}))
        for file in {PROGRAM_FILE, *(program["file"] for program in programs)}:
            (folder / name / file).parent.mkdir(exist_ok=True)
            (folder / name / file).touch()
    return folder


class Program:
    """One stand-in program, which counts its runs.

    Attributes:
        rows: of each run, in order.
        most_at_once: runs that were under way at one time.
        seconds: that a run takes, so that other threads come in between.
    """

    def __init__(self, compute: Callable[..., Tensor | dict[str, Tensor]], seconds: float = 0.0) -> None:
        self.compute, self.seconds = compute, seconds
        self.rows: list[int] = []
        self.most_at_once = self._running = 0

    def __call__(self, *tensors: Tensor) -> Tensor | dict[str, Tensor]:
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        self.rows.append(tensors[0].shape[0])
        if self.seconds:
            time.sleep(self.seconds)
        try:
            return self.compute(*tensors)
        finally:
            self._running -= 1


def encode(ids: Tensor, width: int) -> dict[str, Tensor]:
    """Embeddings (B, tokens, width) that differ with every token and place."""
    place = torch.arange(1, ids.shape[1] + 1)[:, None] * torch.arange(1, width + 1)
    return {"last_hidden_state": torch.sin(ids[..., None] * 0.37 + place * 0.011)}


def denoise(latents: Tensor, embeddings: Tensor, timestep: Tensor, mask: Tensor) -> Tensor:
    """Noise and its variance (B, 8, h, w)."""
    text = (embeddings.float() * mask[..., None]).sum(dim=(1, 2)) / mask.sum(dim=1)
    noise = torch.tanh(latents * 0.8 + (text + timestep / 700).view(-1, 1, 1, 1))
    return torch.cat([noise, noise], dim=1)


def decode(latents: Tensor) -> dict[str, Tensor]:
    """Images (B, 3, 8 h, 8 w)."""
    return {"sample": latents[:, :3].repeat_interleave(SCALE, dim=2).repeat_interleave(SCALE, dim=3) * 0.1}


def stand_in_programs(geometry: Geometry, seconds: float = 0.0) -> dict[str, list[Program]]:
    """The copies of each component's program."""

    def copies(compute: Callable, ranks: int) -> list[Program]:
        return [Program(compute, seconds) for _ in range(1 if ranks > 1 else geometry.copies)]

    return {
        "text_encoder": copies(lambda ids: encode(ids, geometry.width), geometry.ranks),
        "transformer": copies(denoise, geometry.ranks),
        "vae_decoder": copies(decode, 1),
    }


def as_loaded(programs: dict[str, list[Program]], files=lambda component: [PROGRAM_FILE]) -> dict[str, dict]:
    """What the loader returns: for each component the copies of each of its `files`."""
    return {name: dict.fromkeys(files(name), copies) for name, copies in programs.items()}


def load_stand_in(folder: Path, geometry: Geometry = Geometry(), programs: dict | None = None, **options):  # noqa: B008
    """The pipeline of `write_export`'s folder with stand-ins for its programs; `options` go to `from_pretrained`."""
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    programs = programs or stand_in_programs(geometry)

    def load_model(*_args, **_paths):
        if not geometry.ours:
            return {name: copies[0] for name, copies in programs.items()}
        return as_loaded(programs, lambda name: Compiled.read(folder / name).files)

    with mock.patch.object(NeuronPixArtSigmaPipeline, "load_model", staticmethod(load_model)):
        pipe = NeuronPixArtSigmaPipeline.from_pretrained(folder, verify="none", **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, prompt: str | list[str] = "a red cat", **arguments) -> np.ndarray:
    """Pictures of few steps from the noise of one seed."""
    call = {"num_inference_steps": 2, "output_type": "np", "generator": torch.Generator().manual_seed(0)}
    return pipe(prompt, **{**call, **arguments}).images

"""The picture of a model card, drawn by the export itself."""

from pathlib import Path

import torch

from ..artifact.card import EXAMPLE_PROMPT
from ..artifact.checks import kind_of
from ..artifact.manifest import EXAMPLE_FILE
from .pixart import PIPELINES


def draw_example(folder: Path) -> None:
    """Load an export, draw one picture with the defaults of a call and seed 0, and write it into the folder.

    Raises:
        PixArtNeuronError: this machine cannot load the export, or a program fails.
    """
    pipeline = PIPELINES[kind_of(folder).neuron_class].from_pretrained(folder)
    picture = pipeline(EXAMPLE_PROMPT, generator=torch.Generator().manual_seed(0)).images[0]
    picture.save(folder / EXAMPLE_FILE)

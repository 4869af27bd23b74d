"""Does the toolchain work? The small trained PixArt-Sigma of `shapes/`, compiled for this machine, draws one picture.

    python examples/first_light.py

On a trn1, trn2 or inf2 instance it compiles with neuronx-cc and runs on the NeuronCores, elsewhere on the emulator.
`first_light.png` beside this file is the picture to expect, made by diffusers on a CPU in float32.
"""

import sys
from pathlib import Path

import torch

from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

checkpoint = Path(__file__).resolve().parent / "shapes" / "checkpoint"
pipe = NeuronPixArtSigmaPipeline.from_pretrained(checkpoint, export=True)
caption = "a large red circle left of a small blue square on white"
image = pipe(caption, generator=torch.Generator().manual_seed(0)).images[0]
image.save(sys.argv[1] if len(sys.argv) > 1 else "first_light_here.png")

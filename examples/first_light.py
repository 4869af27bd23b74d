"""Does the toolchain work? The small PixArt-Sigma of this package, compiled for this machine, draws one picture.

    python examples/first_light.py [first_light_here.png]

On a trn1, trn2 or inf2 instance it compiles with neuronx-cc and runs on the NeuronCores, elsewhere on the emulator.
The picture is held against `first_light.png` beside this file, which diffusers made on a CPU in float32; the exit
status is 0 where they show the same.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from optimum_pixart_neuron import NeuronPixArtSigmaPipeline
from optimum_pixart_neuron.demo.demo import CAPTIONS, CHECKPOINT
from optimum_pixart_neuron.demo.sheet import psnr

LOWEST = 25.0
"""dB. In bfloat16 on the emulator an edge moves by part of a pixel, which is 33 dB; another drawing is below 20 dB."""

caption, seed = CAPTIONS[0]
pipe = NeuronPixArtSigmaPipeline.from_pretrained(CHECKPOINT, export=True)
image = pipe(caption, generator=torch.Generator().manual_seed(seed)).images[0]
path = Path(sys.argv[1] if len(sys.argv) > 1 else "first_light_here.png").resolve()
image.save(path)
found = psnr(image, Image.open(Path(__file__).with_suffix(".png")))
verdict = "as expected" if found >= LOWEST else f"NOT as expected: at least {LOWEST:g} dB are"
print(f"{path}\n{found:.1f} dB to the picture that diffusers draws: {verdict}")
sys.exit(found < LOWEST)

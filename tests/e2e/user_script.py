"""What a user writes, run as a program: no guard around it, and nothing of this project but the module that is named.

python user_script.py MODULE FOLDER OUTPUT PROMPT...
"""

import sys
from importlib import import_module

import numpy as np
import torch

module, folder, output, *prompts = sys.argv[1:]
pipe = import_module(module).NeuronPixArtSigmaPipeline.from_pretrained(folder)
print("loaded", flush=True)
latents = torch.randn(len(prompts), 4, 32, 32, generator=torch.Generator().manual_seed(0))
arguments = {"negative_prompt": "blurry", "num_inference_steps": 3, "latents": latents, "output_type": "np"}
np.save(output, pipe(prompts, **arguments).images)

# %% [markdown]
# # PixArt-Sigma: as many images as possible
#
# The throughput-optimised variant: every core holds a copy of the transformer and draws images of its own
# (`--parallel_mode data`). The text encoder is sharded over the cores, the decoder is on all of them.
#
# On a trn1, trn2 or inf2 instance this compiles `PixArt-alpha/PixArt-Sigma-XL-2-1024-MS` and runs on its cores. On a
# machine without NeuronCores the same cells run on the emulator; take the small checkpoint of this repository there:
# `PIXART_MODEL=optimum_pixart_neuron/demo/checkpoint`. The outputs below are of the emulator and that checkpoint.
#
# Install: `pip install -e '.[neuronx]'` on an instance, `pip install -e .` elsewhere.

# %%
import os
import subprocess
import sys
import time
from pathlib import Path

MODEL = os.environ.get("PIXART_MODEL", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS")
OUTPUT = Path(os.environ.get("PIXART_OUTPUT", "pixart-neuron-throughput"))
PROMPTS = os.environ.get("PIXART_PROMPT", "an astronaut riding a horse on mars|a red fox in the snow").split("|")
IMAGES_PER_PROMPT = 2
STEPS = int(os.environ.get("PIXART_STEPS", "25"))
OPTIONS = os.environ.get("PIXART_OPTIONS", "").split()  # more flags of the export, as --tensor_parallel_size 4
REPOSITORY = os.environ.get("PIXART_REPOSITORY")  # on the Hugging Face Hub; nothing is pushed without it

OPTIMUM_CLI = str(Path(sys.executable).with_name("optimum-cli"))


def run(*command: str) -> None:
    """Run a command and show what it says while it runs: a compilation takes long."""
    print("$ optimum-cli", *command, flush=True)
    with subprocess.Popen(
        [OPTIMUM_CLI, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode:
        raise RuntimeError(f"optimum-cli ended with status {process.returncode}")


# %% [markdown]
# ## Plan
# Does a copy fit into every core's memory, how many images a second will they draw, at what price?

# %%
run("neuron", "pixart-plan", "--model", MODEL, "--parallel_mode", "data")

# %% [markdown]
# ## Export

# %%
if not OUTPUT.exists():
    run("export", "neuron", "--model", MODEL, str(OUTPUT), "--parallel_mode", "data", *OPTIONS)

# %% [markdown]
# ## Measure
# In a process of its own, so that the cores are free again afterwards. Each request fills all copies.

# %%
run("neuron", "pixart-benchmark", str(OUTPUT), "--images", "8", "--warmup", "1", "--num_inference_steps", str(STEPS))

# %% [markdown]
# ## Load

# %%
import torch
from PIL import Image

from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

pipe = NeuronPixArtSigmaPipeline.from_pretrained(OUTPUT)

# %% [markdown]
# ## Warm up, generate, look
# Any number of prompts and images: they are spread over the copies, in order.

# %%
pipe(PROMPTS, num_inference_steps=2)
start = time.perf_counter()
images = pipe(
    PROMPTS,
    num_images_per_prompt=IMAGES_PER_PROMPT,
    num_inference_steps=STEPS,
    generator=torch.Generator().manual_seed(0),
).images
seconds = time.perf_counter() - start
print(f"{len(images)} images in {seconds:.2f} s, {len(images) / seconds:.2f} images per second")

sheet = Image.new("RGB", (len(images) * images[0].width, images[0].height))
for number, image in enumerate(images):
    sheet.paste(image, (number * image.width, 0))
sheet

# %%
sheet.save(OUTPUT.with_suffix(".png"))

# %% [markdown]
# ## Share
# One commit with a model card; whoever pulls it compiles nothing. `hf auth login` first.

# %%
if REPOSITORY:
    pipe.push_to_hub(OUTPUT, repository_id=REPOSITORY)

# %% [markdown]
# ## Clean up
# The cores are free when the pipeline is gone, on an instance when the process ends.

# %%
del pipe

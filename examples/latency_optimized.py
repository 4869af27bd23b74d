# %% [markdown]
# # PixArt-Sigma: one image as fast as possible
#
# The latency-optimised variant: all cores work on the same image. The guidance pair and the image tokens are split
# over the cores (`--parallel_mode context`), the text encoder by heads and feed-forward width, the decoder by bands of
# rows.
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
OUTPUT = Path(os.environ.get("PIXART_OUTPUT", "pixart-neuron-latency"))
PROMPT = os.environ.get("PIXART_PROMPT", "a photo of an astronaut riding a horse on mars")
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
# Does it fit, which number of cores is the fastest, what will an image cost? Nothing is compiled.

# %%
run("neuron", "pixart-plan", "--model", MODEL, "--parallel_mode", "context")

# %% [markdown]
# ## Export
# Every component is compiled and compared with its original in float32. Size, cores and types are the defaults of the
# checkpoint and the instance; `--height`, `--width`, `--tensor_parallel_size` change them. An interrupted export goes
# on where it was when this cell runs again.

# %%
if not OUTPUT.exists():
    run("export", "neuron", "--model", MODEL, str(OUTPUT), *OPTIONS)

# %% [markdown]
# ## Measure
# In a process of its own, so that the cores are free again afterwards.

# %%
run("neuron", "pixart-benchmark", str(OUTPUT), "--images", "3", "--warmup", "1", "--num_inference_steps", str(STEPS))

# %% [markdown]
# ## Load

# %%
import torch

from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

pipe = NeuronPixArtSigmaPipeline.from_pretrained(OUTPUT)

# %% [markdown]
# ## Warm up, generate, look
# The first image pays for what the runtime sets up once.

# %%
pipe(PROMPT, num_inference_steps=2)
start = time.perf_counter()
image = pipe(PROMPT, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0)).images[0]
print(f"{time.perf_counter() - start:.2f} s for one image")
image

# %%
image.save(OUTPUT.with_suffix(".png"))

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

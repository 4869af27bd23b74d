"""The whole path on a machine without NeuronCores: checkpoint, export, load with the stock class, picture.

    python examples/demo.py [--tensor_parallel_size 4]

Builds a small PixArt-Sigma with random weights, exports it with the real `optimum-cli`, loads it with the real
`optimum.neuron.NeuronPixArtSigmaPipeline`, and compares the picture with diffusers' own. Random weights draw noise:
what is shown is that the two are the same noise.
"""

import argparse
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

OUTPUT = Path(__file__).parent / "output"
PROMPT = "a photo of an astronaut riding a horse on mars"
NEGATIVE_PROMPT = "mountains"
STEPS = 8


def export(checkpoint: Path, folder: Path, ranks: int) -> None:
    """Run `optimum-cli export neuron`, as a user would type it."""
    command = [str(Path(sys.executable).with_name("optimum-cli")), "export", "neuron"]
    command += ["--model", str(checkpoint), str(folder), "--tensor_parallel_size", str(ranks)]
    print("$ " + " ".join(["optimum-cli", *command[1:]]), flush=True)
    subprocess.run(command, check=True)


def generate(folder: Path):
    """Load the export with optimum-neuron's own class and make one picture (height, width, 3) in [0, 1]."""
    from optimum_pixart_neuron.emulator import activate

    activate()
    from optimum.neuron import NeuronPixArtSigmaPipeline  # the stock class; ours is not imported

    pipe = NeuronPixArtSigmaPipeline.from_pretrained(folder)
    return run(pipe), pipe


def run(pipe):
    """One seeded picture."""
    import torch

    generator = torch.Generator().manual_seed(0)
    arguments = {"num_inference_steps": STEPS, "generator": generator, "output_type": "np"}
    return pipe(PROMPT, negative_prompt=NEGATIVE_PROMPT, **arguments).images[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensor_parallel_size", type=int, default=4)
    ranks = parser.parse_args().tensor_parallel_size
    started = time.monotonic()
    checkpoint, exported = OUTPUT / "checkpoint", OUTPUT / "pixart-neuron"
    shutil.rmtree(OUTPUT, ignore_errors=True)

    from optimum_pixart_neuron.tiny import build_tiny_checkpoint

    build_tiny_checkpoint(checkpoint)
    export(checkpoint, exported, ranks)
    picture, pipe = generate(exported)

    from diffusers import PixArtSigmaPipeline
    from PIL import Image

    reference = run(PixArtSigmaPipeline.from_pretrained(checkpoint))
    psnr = -10 * math.log10(((picture - reference) ** 2).mean())
    pair = Image.new("RGB", (2 * picture.shape[1] + 8, picture.shape[0]), "white")
    for column, image in enumerate((reference, picture)):
        pair.paste(Image.fromarray((image * 255).round().astype("uint8")), (column * (image.shape[1] + 8), 0))
    pair.save(OUTPUT / "demo.png")

    print()
    print("what                    ran where")
    for name in ("text_encoder", "transformer", "vae_decoder"):
        parallel = getattr(pipe, name).config.neuron["parallel"]
        where = (
            f"{parallel['ranks']} emulated core(s), one process each" if parallel["ranks"] > 1 else "emulated core 0"
        )
        print(f"  {name:<21} {where}")
    print("  scheduler, tokenizer  this process")
    print(f"PSNR against diffusers in float32: {psnr:.1f} dB (the export is in bfloat16)")
    print(f"left diffusers, right this export: {OUTPUT / 'demo.png'}")
    print(f"{time.monotonic() - started:.0f} s; the emulator's speed says nothing about Neuron")


if __name__ == "__main__":
    main()

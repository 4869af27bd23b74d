"""The whole path on a machine without NeuronCores: checkpoint, export, load with the stock class, pictures.

    python examples/demo.py [--tensor_parallel_size 4]

Takes the small trained PixArt-Sigma of `shapes/`, exports it with the real `optimum-cli`, loads it with the real
`optimum.neuron.NeuronPixArtSigmaPipeline`, and lays its pictures beside those of diffusers, caption by caption.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE / "shapes" / "checkpoint"
OUTPUT = HERE / "output"
CAPTIONS = (
    "a large red circle left of a small blue square on white",
    "a small yellow cross above a large purple triangle on black",
    "three small green squares in a row on pink",
    "a large orange triangle in the center on cyan",
    "a large green square below a small orange cross on cyan",
    "four small red triangles in a column on white",
)
STEPS = 20


def export(folder: Path, ranks: int) -> None:
    """Run `optimum-cli export neuron`, as a user would type it."""
    command = [str(Path(sys.executable).with_name("optimum-cli")), "export", "neuron"]
    command += ["--model", str(CHECKPOINT), str(folder), "--tensor_parallel_size", str(ranks)]
    print("$ " + " ".join(["optimum-cli", *command[1:]]), flush=True)
    subprocess.run(command, check=True)


def load(folder: Path):
    """Load the export with optimum-neuron's own class."""
    from optimum_pixart_neuron.emulator import activate

    activate()
    from optimum.neuron import NeuronPixArtSigmaPipeline  # the stock class; ours is not imported

    return NeuronPixArtSigmaPipeline.from_pretrained(folder)


def draw(pipe) -> list:
    """One seeded picture a caption."""
    import torch

    pipe.set_progress_bar_config(leave=False)
    pictures = []
    for seed, caption in enumerate(CAPTIONS):
        generator = torch.Generator().manual_seed(seed)
        pictures += pipe(caption, num_inference_steps=STEPS, generator=generator).images
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensor_parallel_size", type=int, default=4)
    ranks = parser.parse_args().tensor_parallel_size
    started = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    export(OUTPUT / "pixart-neuron", ranks)

    pipe = load(OUTPUT / "pixart-neuron")
    pictures = draw(pipe)

    import torch
    from diffusers import PixArtSigmaPipeline

    sys.path.insert(0, str(HERE / "shapes"))
    from contact_sheet import contact_sheet, psnr

    references = draw(PixArtSigmaPipeline.from_pretrained(CHECKPOINT, torch_dtype=torch.float32))
    titles = ("diffusers, float32", f"{ranks} cores, bfloat16")
    sheet = contact_sheet(zip(CAPTIONS, references, pictures), titles, columns=3, width=150)
    sheet.save(OUTPUT / "demo.png", optimize=True)

    print()
    print("what                    ran where")
    for name in ("text_encoder", "transformer", "vae_decoder"):
        parallel = getattr(pipe, name).config.neuron["parallel"]
        where = f"{ranks} emulated cores, one process each" if parallel["ranks"] > 1 else "emulated core 0"
        print(f"  {name:<21} {where}")
    print("  scheduler, tokenizer  this process")
    values = [psnr(*pair) for pair in zip(references, pictures)]
    print(f"PSNR against diffusers in float32: {min(values):.1f} to {max(values):.1f} dB (the export is in bfloat16)")
    print(f"the pictures, side by side: {OUTPUT / 'demo.png'}")
    print(f"{time.monotonic() - started:.0f} s; the emulator's speed says nothing about Neuron")


if __name__ == "__main__":
    main()

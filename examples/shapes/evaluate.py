"""Measure on held-out captions what the checkpoint draws, through plain `diffusers.PixArtSigmaPipeline`.

The reader's own accuracy comes first: on the world's drawings, then on those drawings after a round trip through the
autoencoder. Then pictures with and without guidance, and what negative prompts do. Writes results.json, examples.png.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from common import CHECKPOINT, HERE, to_tensor, update_results
from diffusers import PixArtSigmaPipeline
from PIL import Image
from reader import judge, read, share_right
from tqdm import tqdm
from world import COLOURS, GROUNDS, LINES, PLACES, SHAPES, Scene, caption, draw, random_scene

from optimum_pixart_neuron.demo.sheet import captioned

GUIDANCE = 4.5
TOKENS = 16  # prompts are padded to this many; the mask makes longer padding equivalent
EXAMPLES = (
    "a large red circle left of a small blue square on white",
    "a small yellow cross above a large purple triangle on black",
    "three small green squares in a row on pink",
    "a large orange triangle in the center on cyan",
    "a large blue cross right of a large yellow circle on pink",
    "four small red triangles in a column on white",
    "a small purple circle at the bottom on black",
    "a large green square below a small orange cross on cyan",
)


class Painter:
    """Draws prompts in batches; the picture of a prompt depends only on its place in the list."""

    def __init__(self, pipeline: PixArtSigmaPipeline, steps: int, batch: int = 25):
        self.pipeline, self.steps, self.batch = pipeline, steps, batch

    def __call__(
        self, prompts: list[str], name: str, guidance: float = GUIDANCE, negative: list[str] | None = None
    ) -> list[np.ndarray]:
        """uint8 (256, 256, 3) pictures."""
        pictures = []
        for start in tqdm(range(0, len(prompts), self.batch), desc=name):
            part = slice(start, min(start + self.batch, len(prompts)))
            images = self.pipeline(
                prompts[part],
                negative_prompt=negative[part] if negative else "",
                guidance_scale=guidance,
                num_inference_steps=self.steps,
                generator=[torch.Generator().manual_seed(i) for i in range(part.start, part.stop)],
                max_sequence_length=TOKENS,
                output_type="np",
            ).images
            pictures += list((images * 255).round().astype(np.uint8))
        return pictures


def load(folder: Path, dtype: torch.dtype) -> PixArtSigmaPipeline:
    pipeline = PixArtSigmaPipeline.from_pretrained(folder, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def round_trip(pipeline: PixArtSigmaPipeline, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Pictures encoded and decoded by the autoencoder."""
    decoded = []
    for start in tqdm(range(0, len(pictures), 10), desc="round trip"):
        batch = to_tensor(pictures[start : start + 10]).to(pipeline.vae.dtype)
        batch = pipeline.vae.decode(pipeline.vae.encode(batch).latent_dist.mean).sample
        batch = ((batch.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
        decoded += list(batch.numpy())
    return decoded


def held_out_scenes(count: int) -> list[Scene]:
    rng = random.Random(2024)
    return [random_scene(rng, held_out_only=True) for _ in range(count)]


def accuracy(pictures: list[np.ndarray], scenes: list[Scene]) -> dict[str, dict[str, float]]:
    """Percentages right, for all captions and for each kind of caption."""
    verdicts = [judge(picture, scene) for picture, scene in zip(pictures, scenes)]
    kinds = {"one thing": PLACES, "a line": LINES, "two things": ("left of", "above")}
    parts = {kind: [v for v, s in zip(verdicts, scenes) if s.layout in layouts] for kind, layouts in kinds.items()}
    return {"all captions": share_right(verdicts)} | {kind: share_right(v) for kind, v in parts.items() if v}


def negative_prompts(paint: Painter, repeats: int = 1) -> dict[str, float]:
    """How often what a prompt leaves open turns up, without and with a negative prompt that names it, in %."""
    colours = [
        (f"a large {shape} on {ground}", colour) for shape in SHAPES for ground in GROUNDS for colour in COLOURS
    ]
    grounds = [(f"a large {colour} {shape}", ground) for shape in SHAPES for ground in GROUNDS for colour in COLOURS]
    shares = {}
    for name, cases in (("colour", colours * repeats), ("ground", grounds * repeats)):
        prompts, banned = [prompt for prompt, _ in cases], [word for _, word in cases]
        for how, negative in (("without", None), ("with", banned)):
            pictures = paint(prompts, f"{name} {how} negative prompt", negative=negative)
            shown = [_shows(picture, word) for picture, word in zip(pictures, banned)]
            shares[f"{name}, {how} negative prompt"] = round(100 * float(np.mean(shown)), 1)
    return shares


def _shows(picture: np.ndarray, word: str) -> bool:
    ground, found = read(picture)
    return word == ground or any(word == f.thing.colour for f in found)


def save_examples(paint: Painter) -> None:
    pictures = paint(list(EXAMPLES), "examples")
    captioned(zip(EXAMPLES, map(Image.fromarray, pictures))).save(HERE / "examples.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only the guided pictures; writes nothing but prints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start, pipeline = time.time(), load(args.checkpoint, getattr(torch, args.dtype))
    scenes, paint = held_out_scenes(args.captions), Painter(pipeline, args.steps)
    prompts = [caption(scene, flip=i % 2 == 1) for i, scene in enumerate(scenes)]
    if args.quick:
        print(accuracy(paint(prompts, "guided"), scenes))
        return
    drawing = random.Random(7)
    truth = [draw(scene, drawing) for scene in scenes]
    results = {
        "captions": args.captions,
        "sampling_steps": args.steps,
        "guidance": GUIDANCE,
        "dtype": args.dtype,
        "reader on drawings": accuracy(truth, scenes),
        "reader on autoencoded drawings": accuracy(round_trip(pipeline, truth), scenes),
        "generated with guidance": accuracy(paint(prompts, "guided"), scenes),
        "generated without guidance": accuracy(paint(prompts, "unguided", guidance=1.0), scenes),
        "negative prompts": negative_prompts(paint),
        "minutes": round((time.time() - start) / 60, 1),
    }
    update_results("evaluation" if args.dtype == "float32" else f"evaluation in {args.dtype}", results)
    save_examples(paint)
    for name in ("reader on drawings", "generated with guidance", "generated without guidance"):
        print(name, results[name]["all captions"])
    print(results["negative prompts"])


if __name__ == "__main__":
    main()

"""What guidance in a part of the schedule does to what the checkpoint draws, on held-out captions.

    python examples/shapes/intervals.py [--captions 500] [--steps 20]

Every interval draws the same captions from the same noise, with diffusers' pipeline and the class by which
`guidance_interval` computes one half outside the interval. Prints a table, and writes it into results.json.
"""

import argparse
import time
from unittest.mock import patch

import numpy as np
import torch
from common import CHECKPOINT, update_results
from diffusers import PixArtSigmaPipeline
from evaluate import GUIDANCE, TOKENS, held_out_scenes, load
from reader import judge
from tqdm import tqdm
from world import caption

from optimum_pixart_neuron.runtime.guidance import GuidedInterval, Interval

WHOLE = "whole schedule"
INTERVALS: dict[str, Interval] = {
    WHOLE: (0.0, 1.0),
    **{str(interval): interval for interval in ((0.0, 0.7), (0.0, 0.5), (0.2, 0.8))},
}
WITHOUT = "none"
BATCH = 25


class Intervals:
    """Draws prompts of one batch in one interval after another; what two of them have in common is computed once.

    Steps are in common until the first that one computes with guidance and the other without.
    """

    def __init__(self, pipeline: PixArtSigmaPipeline) -> None:
        self.pipeline = pipeline
        self.interval: Interval = (0.0, 1.0)
        self.guided: tuple[bool, ...] = ()
        self.predictions: dict[tuple[bool, ...], torch.Tensor] = {}

    def __call__(self, prompts: list[str], **arguments):
        real, self.guided = self.pipeline.transformer.forward, ()

        def run(latents, embeddings, timesteps, mask):
            pair = latents.shape[0] > len(prompts)
            self.guided += (pair,)
            if self.guided not in self.predictions:
                named = {"encoder_hidden_states": embeddings, "timestep": timesteps, "encoder_attention_mask": mask}
                none = {"resolution": None, "aspect_ratio": None}
                self.predictions[self.guided] = real(latents, **named, added_cond_kwargs=none)[0]
            return self.predictions[self.guided]

        within = GuidedInterval(run, self.interval, lambda: len(self.pipeline.scheduler.timesteps))
        program = within if arguments["guidance_scale"] > 1 else run

        def forward(latents, encoder_hidden_states, timestep, encoder_attention_mask, **_):
            return (program(latents, encoder_hidden_states, timestep, encoder_attention_mask),)

        with patch.object(self.pipeline.transformer, "forward", forward):
            return self.pipeline(prompts, **arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start, drawing = time.time(), Intervals(load(CHECKPOINT, torch.float32))
    scenes = held_out_scenes(args.captions)
    prompts = [caption(scene, flip=i % 2 == 1) for i, scene in enumerate(scenes)]
    right: dict[str, list[bool]] = {name: [] for name in (*INTERVALS, WITHOUT)}
    halves = {}
    for first in tqdm(range(0, args.captions, BATCH)):
        part = slice(first, first + BATCH)
        drawing.predictions.clear()
        for name, verdicts in right.items():
            drawing.interval = INTERVALS.get(name, (0.0, 1.0))
            pictures = drawing(
                prompts[part],
                negative_prompt="",
                guidance_scale=1.0 if name == WITHOUT else GUIDANCE,
                num_inference_steps=args.steps,
                generator=[torch.Generator().manual_seed(i) for i in range(first, first + len(prompts[part]))],
                max_sequence_length=TOKENS,
                output_type="np",
            ).images
            halves[name] = sum(1 + pair for pair in drawing.guided)
            verdicts += [
                all(judge((picture * 255).round().astype(np.uint8), scene).values())
                for picture, scene in zip(pictures, scenes[part])
            ]
    rows = {name: row(each, right[WHOLE], halves[name]) for name, each in right.items()}
    facts = {"captions": args.captions, "sampling_steps": args.steps, "guidance": GUIDANCE}
    update_results("guidance intervals", {**facts, "rows": rows, "minutes": round((time.time() - start) / 60, 1)})
    print("| Guidance | Right | Right where the whole schedule is wrong, and the reverse | Half-pair programs run |")
    print("|---|---|---|---|")
    for name, each in rows.items():
        print(f"| {name} | {each['right']} % | {each['gained']}, {each['lost']} | {each['halves']} |")


def row(right: list[bool], whole: list[bool], halves: int) -> dict[str, float]:
    """The share that is right in %, and on how many captions it differs from the whole schedule."""
    pairs = list(zip(right, whole))
    return {
        "right": round(100 * sum(right) / len(right), 1),
        "gained": pairs.count((True, False)),
        "lost": pairs.count((False, True)),
        "halves": halves,
    }


if __name__ == "__main__":
    main()

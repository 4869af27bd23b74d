"""What guidance in a part of the schedule does to what the checkpoint draws, on held-out captions.

    python examples/shapes/intervals.py [--captions 500] [--steps 20]

Every interval draws the same captions from the same noise, with diffusers' pipeline and the class by which
`guidance_interval` computes one half outside the interval. Prints a table, and writes it into results.json.
"""

import argparse
import time
from unittest.mock import patch

import torch
from common import CHECKPOINT, update_results
from diffusers import PixArtSigmaPipeline
from evaluate import GUIDANCE, Painter, held_out_scenes, load
from reader import ASPECTS, judge
from world import caption

from optimum_pixart_neuron.runtime.guidance import GuidedInterval, Interval

WHOLE = "whole schedule"
INTERVALS: dict[str, Interval] = {
    WHOLE: (0.0, 1.0),
    **{str(interval): interval for interval in ((0.0, 0.7), (0.0, 0.5), (0.2, 0.8))},
}
WITHOUT = "none"


class InInterval:
    """A pipeline whose calls compute guidance in an interval; counts the halves of a pair that a call runs."""

    def __init__(self, pipeline: PixArtSigmaPipeline, interval: Interval) -> None:
        self.pipeline, self.interval, self.halves = pipeline, interval, 0

    def __call__(self, prompts: list[str], **arguments):
        real, self.halves = self.pipeline.transformer.forward, 0
        images = len(prompts)

        def run(latents, embeddings, timesteps, mask):
            self.halves += latents.shape[0] // images
            named = {"encoder_hidden_states": embeddings, "timestep": timesteps, "encoder_attention_mask": mask}
            return real(latents, **named, added_cond_kwargs={"resolution": None, "aspect_ratio": None})[0]

        guided = GuidedInterval(run, self.interval, lambda: len(self.pipeline.scheduler.timesteps))

        def forward(latents, encoder_hidden_states, timestep, encoder_attention_mask, **_):
            return (guided(latents, encoder_hidden_states, timestep, encoder_attention_mask),)

        with patch.object(self.pipeline.transformer, "forward", forward):
            return self.pipeline(prompts, **arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start, pipeline = time.time(), load(CHECKPOINT, torch.float32)
    scenes = held_out_scenes(args.captions)
    prompts = [caption(scene, flip=i % 2 == 1) for i, scene in enumerate(scenes)]
    right, halves = {}, {}
    for name in (*INTERVALS, WITHOUT):
        drawing = InInterval(pipeline, INTERVALS.get(name, (0.0, 1.0)))
        guidance = 1.0 if name == WITHOUT else GUIDANCE
        pictures = Painter(drawing, args.steps)(prompts, name, guidance=guidance)
        verdicts = [judge(picture, scene) for picture, scene in zip(pictures, scenes)]
        right[name] = [all(verdict[aspect] for aspect in ASPECTS) for verdict in verdicts]
        halves[name] = drawing.halves
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

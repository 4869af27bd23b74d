"""Host time of one call at the released geometry, with programs that do nothing, and of diffusers' own pipeline.

    python examples/benchmark_host.py [CALLS]

Says what diffusers' loop, its scheduler, the tokenizer and this package's border cost beside the programs: elapsed
time, which needs a quiet machine, the processor time of this process, which does not, and the latter's ratio to
diffusers' pipeline with idle modules, in turns. The counts that keep it so are tested in
`tests/runtime/test_pipeline.py`, whose stand-ins for programs these are.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from unittest import mock

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.runtime.stand_in import SCALE, Geometry, Program, load_stand_in, write_export

XL_2 = Geometry(side=128, tokens=300, width=4096, ranks=4)
STEPS = 20
PROMPT = "a photo of an astronaut riding a horse on mars, highly detailed"
TASKS = {
    "new prompt to latents": {"output_type": "latent"},
    "known prompt to latents": {"output_type": "latent"},
    "known prompt to a picture": {},
}


def idle_outputs() -> dict[str, torch.Tensor]:
    rows, side = 2 * XL_2.batch, XL_2.side  # of the guidance pair
    return {
        "text_encoder": torch.zeros(XL_2.batch, XL_2.tokens, XL_2.width),
        "transformer": torch.zeros(rows, 8, side, side),
        "vae_decoder": torch.zeros(XL_2.batch, 3, side * SCALE, side * SCALE),
    }


def idle_programs() -> dict[str, list[Program]]:
    """Programs that return what they were made with."""
    keys = {"text_encoder": "last_hidden_state", "vae_decoder": "sample"}
    outputs = {name: {keys[name]: output} if name in keys else output for name, output in idle_outputs().items()}
    return {name: [Program(lambda *_, output=output: output)] for name, output in outputs.items()}


class Idle(nn.Module):
    """A module of diffusers' pipeline that returns what it was made with."""

    def __init__(self, output: torch.Tensor, **config: object) -> None:
        super().__init__()
        self.output, self.config, self.dtype = output, SimpleNamespace(**config), output.dtype

    def forward(self, *_: object, **__: object) -> tuple[torch.Tensor]:
        return (self.output,)

    decode = forward


@contextmanager
def diffusers_pipeline(tokenizer, scheduler) -> Iterator[Callable]:
    from diffusers import PixArtSigmaPipeline

    outputs = idle_outputs()
    with (
        mock.patch.object(PixArtSigmaPipeline, "register_modules", lambda pipe, **parts: vars(pipe).update(parts)),
        mock.patch.object(PixArtSigmaPipeline, "_execution_device", torch.device("cpu")),
        mock.patch.object(PixArtSigmaPipeline, "maybe_free_model_hooks", lambda pipe: None),
    ):
        pipe = PixArtSigmaPipeline(
            tokenizer=tokenizer,
            text_encoder=Idle(outputs["text_encoder"]),
            vae=Idle(outputs["vae_decoder"], block_out_channels=[1] * 4, scaling_factor=0.13025),
            transformer=Idle(outputs["transformer"], sample_size=XL_2.side, in_channels=4, out_channels=8),
            scheduler=scheduler,
        )
        pipe.set_progress_bar_config(disable=True)
        yield pipe


def timed(pipe: Callable, prompt: str, arguments: dict) -> tuple[float, float]:
    begin, begin_busy = time.perf_counter(), time.process_time()
    pipe(prompt, num_inference_steps=STEPS, **arguments)
    return 1000 * (time.perf_counter() - begin), 1000 * (time.process_time() - begin_busy)


def measure(calls: int) -> dict[str, tuple[float, float, float]]:
    """By task, median milliseconds of a call, elapsed and of the processor, and of the latter those of diffusers."""
    with tempfile.TemporaryDirectory() as scratch:
        ours = load_stand_in(write_export(Path(scratch, "xl-2"), XL_2), XL_2, idle_programs())
        found = {}
        with diffusers_pipeline(ours.tokenizer, ours.scheduler) as theirs:
            for name, arguments in TASKS.items():
                times = []
                for number in range(calls):
                    prompt = f"{PROMPT}, {number}" if name.startswith("new") else PROMPT
                    times.append((*timed(ours, prompt, arguments), timed(theirs, prompt, arguments)[1]))
                found[name] = tuple(median(column) for column in zip(*times))
        return found


def main() -> None:
    """Print a line a task."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    torch.set_num_threads(1)
    print(
        f"{STEPS} steps at {XL_2.side * SCALE} px, ms elapsed, of the processor, diffusers', median of {calls} calls"
    )
    for name, (elapsed, busy, reference) in measure(calls).items():
        print(f"  {name:<26} {elapsed:6.1f} {busy:6.1f} {reference:6.1f}  ratio {busy / reference:.2f}")


if __name__ == "__main__":
    main()

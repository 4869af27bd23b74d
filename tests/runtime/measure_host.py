"""Host time of one call at the released geometry, with programs that do nothing.

    python -m tests.runtime.measure_host [CALLS]

Says what diffusers' loop, its scheduler, the tokenizer and this package's border cost beside the programs: elapsed
time, which needs a quiet machine, and the processor time of this process, which does not. The counts that keep it so
are tested in `test_pipeline.py`.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from .stand_in import SCALE, XL_2, Program, load_stand_in, write_export

STEPS = 20
PROMPT = "a photo of an astronaut riding a horse on mars, highly detailed"


def idle_programs() -> dict[str, list[Program]]:
    """Programs that return what they were made with."""
    rows, side = XL_2.transformer_rows, XL_2.side
    outputs = {
        "text_encoder": {"last_hidden_state": torch.zeros(XL_2.batch, XL_2.tokens, XL_2.width)},
        "transformer": torch.zeros(rows, 8, side, side),
        "vae_decoder": {"sample": torch.zeros(XL_2.batch, 3, side * SCALE, side * SCALE)},
    }
    return {name: [Program(lambda *_, output=output: output)] for name, output in outputs.items()}


def measure(calls: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of a call, elapsed and of the processor, by what is asked of it."""
    with tempfile.TemporaryDirectory() as scratch:
        pipe = load_stand_in(write_export(Path(scratch, "xl-2"), XL_2), XL_2, idle_programs())
        found = {}
        for name, arguments in {
            "new prompt to latents": {"output_type": "latent"},
            "known prompt to latents": {"output_type": "latent"},
            "known prompt to a picture": {},
        }.items():
            times, busy = [], []
            for number in range(calls):
                prompt = f"{PROMPT}, {number}" if name.startswith("new") else PROMPT
                begin, begin_busy = time.perf_counter(), time.process_time()
                pipe(prompt, num_inference_steps=STEPS, **arguments)
                times.append(time.perf_counter() - begin)
                busy.append(time.process_time() - begin_busy)
            found[name] = 1000 * median(times), 1000 * median(busy)
        return found


def main() -> None:
    """Entry point of `python -m tests.runtime.measure_host`."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    torch.set_num_threads(1)
    print(f"{STEPS} steps at {XL_2.side * SCALE} px, ms elapsed and ms of the processor, median of {calls} calls")
    for name, (elapsed, busy) in measure(calls).items():
        print(f"  {name:<26} {elapsed:6.1f} {busy:6.1f}")


if __name__ == "__main__":
    main()

"""What serving costs on this machine, as ratios of one run: nothing here is a speed of Neuron hardware.

    python examples/benchmark_serving.py [--export FOLDER] [--requests 20] [--images 40] [--load 200]

Measured on the emulator, by default with the trained checkpoint of `examples/shapes`, two ranks, batches of four:
    overhead   one request at a time through `pixart-serve`, 20 steps, over the pipeline called in this process; in
               turns, the median of each (goal: at most 1.05)
    generate   pictures a second of `pixart-generate` on one actor, between its first and its last picture, over a
               plain loop that draws, encodes and writes the same batches (goal: at least 0.95)
    load       runs of the transformer for many requests, 16 at a time, over what one by one needs (goal: at most 0.35)
Writes benchmark_serving.json beside itself; its exit status is 1 when a goal is missed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from optimum_pixart_neuron.demo.demo import CHECKPOINT

HERE = Path(__file__).resolve().parent
INSTANCE = "trn1.2xlarge"
STEPS, BATCH, PORT = 20, 4, 8765
GOALS = {"overhead": (1.05, "at most"), "generate": (0.95, "at least"), "load": (0.35, "at most")}
CLI = str(Path(sys.executable).with_name("optimum-cli"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=Path, help="Folder of an export with batches of four; default: made here.")
    parser.add_argument("--requests", type=int, default=20, help="Of each side of the overhead.")
    parser.add_argument("--images", type=int, default=40, help="Of each side of generate.")
    parser.add_argument("--load", type=int, default=200, help="Requests of the load.")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is ended, too
    os.environ |= {"NEURON_EMULATOR_INSTANCE": INSTANCE, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as holder:
        export = (args.export or make_export(Path(holder) / "pixart")).resolve()
        figures = {**server_figures(export, args.requests, args.load)}
        figures["generate"] = generate_figure(export, args.images, Path(holder))
    met = {name: figure <= GOALS[name][0] if GOALS[name][1] == "at most" else figure >= GOALS[name][0]
           for name, figure in figures.items()}  # fmt: skip
    for name, figure in figures.items():
        limit, kind = GOALS[name]
        print(f"{name:10} {figure:.3f}  goal: {kind} {limit}  {'met' if met[name] else 'MISSED'}")
    result = {"ratios": figures, "met": met, "requests": args.requests, "images": args.images, "load": args.load}
    (HERE / "benchmark_serving.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(met.values()) else 1


def make_export(output: Path) -> Path:
    from optimum_pixart_neuron.export.exporter import export
    from optimum_pixart_neuron.export.options import ExportOptions

    model = str(CHECKPOINT)
    options = {"tensor_parallel_size": 2, "batch_size": BATCH, "torch_dtype": "float32", "disable_validation": True}
    return export(ExportOptions(model=model, output=output, **options))


def load(export: Path):
    from optimum_pixart_neuron import NeuronPixArtSigmaPipeline

    pipe = NeuronPixArtSigmaPipeline.from_pretrained(export)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, prompts: list[str], seeds: list[int]) -> list:
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(prompts, num_inference_steps=STEPS, generator=generators).images


@contextmanager
def serving(export: Path) -> Iterator[str]:
    import httpx

    command = [CLI, "neuron", "pixart-serve", str(export), "--port", str(PORT), "--no_page"]
    process = subprocess.Popen([*command, "--request_timeout", "86400"])
    url = f"http://127.0.0.1:{PORT}"
    try:
        while process.poll() is None:
            try:
                if httpx.get(f"{url}/health", timeout=10).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait()


def server_figures(export: Path, requests: int, many: int) -> dict[str, float]:
    import httpx

    pipe = load(export)
    with serving(export) as url, httpx.Client(base_url=url, timeout=None) as http:

        def ask(number: int, steps: int = STEPS) -> None:
            body = {"prompt": f"a red circle {number}", "seed": number, "num_inference_steps": steps}
            answer = http.post("/v1/images/generations", json=body)
            answer.raise_for_status()

        sides = {"bare": lambda n: draw(pipe, [f"a red circle {n}"], [n]), "served": ask}
        for side in sides.values():
            side(0)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(requests):
            for name, side in sides.items():
                started = time.perf_counter()
                side(number)
                seconds[name].append(time.perf_counter() - started)
        print({name: f"{median(times):.3f} s" for name, times in seconds.items()}, flush=True)
        before = runs(http)
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda number: ask(number, steps=2), range(many)))
        used = runs(http) - before
    return {"overhead": median(seconds["served"]) / median(seconds["bare"]), "load": used / (2 * many)}


def runs(http) -> float:
    lines = http.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("pixart_denoising_steps_total{"))


def generate_figure(export: Path, images: int, holder: Path) -> float:
    prompts = [f"a blue square {number}" for number in range(images)]
    (holder / "prompts.txt").write_text("\n".join(prompts))
    out = holder / "pictures"
    command = [CLI, "neuron", "pixart-generate", str(export), "--prompts", str(holder / "prompts.txt"), str(out)]
    subprocess.run([*command, "--num_inference_steps", str(STEPS), "--actors", "1"], check=True)
    written = sorted(file.stat().st_mtime for file in out.rglob("*.png"))
    pipe = load(export)
    (holder / "loop").mkdir()
    done = []
    for first in range(0, images, BATCH):
        numbers = list(range(first, min(first + BATCH, images)))
        for number, image in zip(numbers, draw(pipe, [prompts[number] for number in numbers], numbers)):
            image.save(holder / "loop" / f"{number}.png", compress_level=1)
        done.append(time.time())
    # The first batch of either begins while something else starts.
    rates = [(images - BATCH) / (each[-1] - each[first]) for each, first in ((written, BATCH - 1), (done, 0))]
    return rates[0] / rates[1]


if __name__ == "__main__":
    sys.exit(main())

"""One denoising step, dense and split over two ranks, measured side by side on this machine's CPU.

    python examples/benchmark_step.py [--peer] [--controls] [--size 1024]

Variants, each in processes of its own, run in turn in every round:
    dense    diffusers' PixArtTransformer2DModel, eager, the guidance pair as one batch, two threads
    tensor   this project's `--parallel_mode tensor`, compiled by ModelBuilder, two ranks of the emulator
    context  this project's `--parallel_mode context`, likewise: one row of the guidance pair on each rank
    peer     cache-dit's Ulysses context parallelism of the same model, two processes (with --peer)
    dense*, peer*  with --controls: the same, given what the emulator gives its ranks: memory in huge pages, and
             linear layers by oneDNN
With two cores and two ranks all variants do the same arithmetic on the same cores: what context gains over dense and
peer is the emulator's way to run it, what it gains over dense* and peer* the split's. Ranks and processes have one
thread each. Writes benchmark_step.json and, with matplotlib, benchmark_step.png.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
PARTS = HERE / "benchmark"
sys.path.insert(0, str(PARTS))

from environment import cache_folder, peer_python  # noqa: E402
from plot import draw  # noqa: E402
from problem import CONTROL, write_problem  # noqa: E402

RANKS = 2
# Relative to the largest value of the dense prediction. Rounding of some blocks stays far below, a mistake does not.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
GOALS = {"dense": 0.90, "peer": 0.80}
CAVEATS = (
    "What this does not show: the speed of a NeuronCore, of its links or of its compiler. The ranks are processes on",
    "the CPU cores of this machine, which share caches and memory; collectives are gloo over loopback. Without dense*",
    "and peer* (--controls) it does not tell what the split gains from what the emulator's memory and library gain.",
)


@dataclass
class Variant:
    """One way to compute the step, as running processes.

    Attributes:
        commands: one for each process that is told to run.
        is_control: whether it gets the emulator's allocator setting and matrix library.
        seconds: of each round.
    """

    name: str
    title: str
    commands: list[list[str]]
    log: Path
    is_control: bool = False
    processes: list[subprocess.Popen] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    error: float = 0.0

    def start(self) -> None:
        """Start the processes and wait until they have loaded."""
        environment = dict(os.environ)
        if self.is_control:  # as the emulator's ranks have it, see its `runtime.py`
            environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        for command in self.commands:
            with self.log.open("a") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                )
            self.processes.append(process)
        self.facts = self._answers()[0]

    def ask(self, word: str) -> list[dict]:
        """Send one line to every process; their answers."""
        for process in self.processes:
            process.stdin.write(word + "\n")
            process.stdin.flush()
        return self._answers()

    def run(self, word: str = "run") -> float:
        """Seconds of one step, those of the slowest process."""
        return max(answer["seconds"] for answer in self.ask(word))

    def peak_bytes(self) -> list[int]:
        """Largest resident memory of each rank or process while stepping."""
        return [peak for answer in self.ask("memory") for peak in answer["bytes"]]

    def _answers(self) -> list[dict]:
        lines = [process.stdout.readline() for process in self.processes]
        if not all(lines):
            sys.exit(self.log.read_text()[-3000:] + f"\nthe variant {self.name} failed, see above")
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def make_variants(folder: Path, dtype: str, peer: Path | None, controls: bool) -> dict[str, Variant]:
    """The variants by name, not started; `peer` is its interpreter."""
    variants = {}

    def add(name: str, title: str, python: Path | str, part: str, how: str, *, processes: int = 1) -> None:
        words = [[str(python), str(PARTS / part), str(folder), how, dtype, str(RANKS)] for _ in range(processes)]
        if processes > 1:
            words = [[*each, str(rank)] for rank, each in enumerate(words)]
        variants[name] = Variant(name, title, words, folder / f"{name}.log", how == CONTROL)

    add("dense", f"dense diffusers, {RANKS} threads", sys.executable, "dense.py", "plain")
    add("tensor", f"tensor, {RANKS} ranks", sys.executable, "emulated.py", "tensor")
    add("context", f"context, {RANKS} ranks", sys.executable, "emulated.py", "context")
    if peer:
        add("peer", f"cache-dit Ulysses, {RANKS} processes", peer, "peer.py", "plain", processes=RANKS)
    if controls:
        add("dense*", "dense*, as a rank has it", sys.executable, "dense.py", CONTROL)
    if controls and peer:
        add("peer*", "cache-dit*, as a rank has it", peer, "peer.py", CONTROL, processes=RANKS)
    return variants


def measure(variants: dict[str, Variant], folder: Path, rounds: int) -> None:
    """Start all, check every prediction against the dense one, then run them in turn."""
    from safetensors.torch import load_file

    for name, variant in variants.items():
        print(f"starting {name}", flush=True)
        variant.start()
        variant.run(f"save {folder / name}.safetensors")  # also the warm-up
    dense, *_ = predictions = [load_file(folder / f"{name}.safetensors")["prediction"] for name in variants]
    for variant, prediction in zip(variants.values(), predictions):
        variant.error = ((prediction - dense).abs().max() / dense.abs().max()).item()
    order = list(variants.values())
    for number in range(rounds):
        for variant in order:
            variant.seconds.append(variant.run())
        order.append(order.pop(0))  # nobody always runs after the same one
        print(
            f"round {number + 1}/{rounds}: " + ", ".join(f"{v.name} {v.seconds[-1]:.2f} s" for v in variants.values())
        )


def sent(variant: dict) -> str:
    """Megabytes that one rank sends in a step, from the traced program."""
    if "collectives" not in variant:
        return "-"
    return f"{sum(kind['bytes_sent'] for kind in variant['collectives'].values()) / 1e6:.2f}"


def print_table(variants: dict[str, dict]) -> None:
    medians = {name: median(variant["seconds"]) for name, variant in variants.items()}
    references = [name for name in GOALS if name in variants]
    columns = ["median s", "min s", *[f"x {name}" for name in references], "peak MiB", "sent MB", "error"]
    print(f"\n{'':<32}" + "".join(f"{column:>10}" for column in columns))
    for name, variant in variants.items():
        cells = [f"{medians[name]:.3f}", f"{min(variant['seconds']):.3f}"]
        cells += [f"{medians[name] / medians[reference]:.2f}" for reference in references]
        cells += [f"{max(variant['peak_bytes']) / 2**20:.0f}", sent(variant), f"{variant['error']:.1e}"]
        print(f"{variant['title']:<32}" + "".join(f"{cell:>10}" for cell in cells))
    print("\npeak: of one rank or process, weights included; sent: by one rank, counted in the traced program\n")
    for name in references:
        ratio = medians["context"] / medians[name]
        verdict = "met" if ratio <= GOALS[name] else "missed"
        print(f"context / {name}: {ratio:.2f}, goal at most {GOALS[name]:.2f}: {verdict}")
        if f"{name}*" in medians:
            print(f"context / {name}*: {medians['context'] / medians[f'{name}*']:.2f}, with its memory and library")
    print("\n".join(["", *CAVEATS]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="Pixels a side (default: %(default)s).")
    parser.add_argument("--blocks", type=int, default=4, help="Transformer blocks (default: %(default)s).")
    parser.add_argument("--rounds", type=int, default=7, help="Runs of each variant (default: %(default)s).")
    parser.add_argument("--dtype", choices=list(TOLERANCE), default="float32", help="Default: %(default)s.")
    parser.add_argument("--peer", action="store_true", help="Also measure cache-dit, in an environment made for it.")
    parser.add_argument("--peer_folder", type=Path, default=cache_folder(), help="That environment's folder.")
    parser.add_argument(
        "--torch", default=os.environ.get("TORCH", "torch==2.13.0"), help="torch of that environment (or $TORCH)."
    )
    parser.add_argument("--controls", action="store_true", help="Also measure dense* and peer*.")
    parser.add_argument("--output", type=Path, default=HERE, help="Folder of the JSON and the plot.")
    options = parser.parse_args()

    peer = peer_python(options.peer_folder, options.torch) if options.peer else None
    load_before = os.getloadavg()
    import torch

    with tempfile.TemporaryDirectory(prefix="pixart-benchmark-") as holder:
        folder = Path(holder)
        write_problem(folder, size=options.size, blocks=options.blocks)
        variants = make_variants(folder, options.dtype, peer, options.controls)
        try:
            measure(variants, folder, options.rounds)
            peaks = {name: variant.peak_bytes() for name, variant in variants.items()}
        finally:
            for variant in variants.values():
                variant.stop()
    run = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "cores": os.cpu_count(),
            "processor": processor(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "load average before and after": [load_before[0], os.getloadavg()[0]],
        },
        "problem": {key: getattr(options, key) for key in ("size", "blocks", "dtype", "rounds")},
        "variants": {
            name: {
                "title": variant.title,
                "seconds": [round(value, 4) for value in variant.seconds],
                "error": variant.error,
                "peak_bytes": peaks[name],
                **variant.facts,
            }
            for name, variant in variants.items()
        },
    }
    print_table(run["variants"])
    (options.output / "benchmark_step.json").write_text(json.dumps(run, indent=1) + "\n")
    if not draw(run, options.output / "benchmark_step.png"):
        print("no plot: matplotlib is not installed (pip install 'optimum-pixart-neuron[benchmark]')")
    wrong = [name for name, variant in variants.items() if not variant.error <= TOLERANCE[options.dtype]]
    if wrong:
        print(f"the predictions of {', '.join(wrong)} differ from the dense one")
    return bool(wrong)


def processor() -> str:
    """The processor's name as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    sys.exit(main())

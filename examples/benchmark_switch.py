"""How long a loaded pipeline takes to have other weights, as a ratio to reading its weight files, at XL/2's size.

    python examples/benchmark_switch.py [--ranks 2] [--rank 16] [--rounds 3] [--layers 28]

The transformer of PixArt-Sigma-XL/2 in tensor mode with random weights in bfloat16, and a LoRA on all linear layers of
its blocks. Timed is what `load_lora_weights` and `unload_lora_weights` do: the LoRA is merged into the rank weights,
and the program begins again with them. That program takes its weights and no more. No time here is a NeuronCore's;
the ratio to reading the files says what a switch costs beyond that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from optimum_pixart_neuron.artifact.compiled import Compiled, shard_files
from optimum_pixart_neuron.checkpoint.adapters import geometry_of
from optimum_pixart_neuron.components.registry import DENOISER
from optimum_pixart_neuron.lora.adapter import ActiveAdapter, read_adapter
from optimum_pixart_neuron.neuron.sdk import ensure_sdk
from optimum_pixart_neuron.runtime.rank_weights import ExportedWeights

PART = DENOISER.part.name


def main() -> None:
    """Print the medians and their ratios to reading the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2, help="Ranks that divide the weights (default: %(default)s).")
    parser.add_argument("--rank", type=int, default=16, help="Of the LoRA (default: %(default)s).")
    parser.add_argument("--rounds", type=int, default=3, help="Switches of each kind (default: %(default)s).")
    parser.add_argument("--layers", type=int, default=28, help="Blocks (default: %(default)s).")
    args = parser.parse_args()
    ensure_sdk()
    torch.set_num_threads(1)
    config = {**DENOISER.part.released, "num_layers": args.layers, "_class_name": DENOISER.part.class_name}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / PART
        whole = geometry_of({PART: config})[PART]
        share = shares(whole, args.ranks)
        write_export(folder, config, share, args.ranks)
        adapter = read_adapter(write_lora(Path(work), whole, args.rank), None, {PART: whole})
        weights = ExportedWeights(DENOISER, folder, Compiled.read(folder))
        program = Ranks(args.ranks, share)
        ways = {
            "reading the files": lambda: [touched(load_file(file)) for file in shard_files(folder, args.ranks)],
            "loading the export": lambda: program.initialize(weights.by_rank((), None)),
            "merging a LoRA": lambda: weights.by_rank([ActiveAdapter(adapter)], None),
            "to a LoRA": lambda: program.initialize(weights.by_rank([ActiveAdapter(adapter)], None)),
            "back": lambda: program.initialize(weights.by_rank((), None)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(args.rounds + 1):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                if number:  # the first round brings the files into the page cache
                    seconds[name].append(time.perf_counter() - started)
        size = sum(file.stat().st_size for file in shard_files(folder, args.ranks))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    changed = len(adapter.changes[PART])
    print(f"{size / 1e9:.2f} GB of weights on {args.ranks} ranks, a LoRA of rank {args.rank} on {changed} of them")
    for name, median in medians.items():
        print(f"{name:>18}  {median:6.2f} s  {median / medians['reading the files']:.2f}")


def shares(whole: dict[str, tuple[int, ...]], ranks: int) -> dict[str, tuple[int, ...]]:
    """What one rank has of each weight in tensor mode."""
    placed = DENOISER.plan.placements(list(whole))
    return {
        name: tuple(size // ranks if axis == placed[name].dim else size for axis, size in enumerate(shape))
        for name, shape in whole.items()
    }


def touched(weights: dict[str, torch.Tensor]) -> int:
    """Every page of mapped weights, read."""
    return sum(int(tensor.view(-1).view(torch.uint8)[::4096].sum()) for tensor in weights.values())


def write_export(folder: Path, config: dict, share: dict[str, tuple[int, ...]], ranks: int) -> None:
    """Configuration and weight files, as an export in tensor mode has them."""
    compiled = {"model_type": DENOISER.model_type, "tensor_parallel_size": ranks, "static_batch_size": 1}
    compiled["parallel"] = {"mode": None, "ranks": ranks, "guided": True}
    files = shard_files(folder, ranks)
    files[0].parent.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**config, "neuron": compiled}))
    for file in files:
        save_file({name: torch.randn(shape).bfloat16() for name, shape in share.items()}, file)


def write_lora(folder: Path, whole: dict[str, tuple[int, ...]], rank: int) -> Path:
    """A file of diffusers' form that changes every linear layer of the blocks."""
    tensors = {}
    for name, shape in whole.items():
        if "blocks" in name and len(shape) == 2 and name.endswith(".weight"):
            module = f"{PART}.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(rank, shape[1]) * 0.01
            tensors[f"{module}.lora_B.weight"] = torch.randn(shape[0], rank) * 0.01
    save_file(tensors, folder / "lora.safetensors")
    return folder / "lora.safetensors"


class Ranks:
    """An emulated program over several ranks that takes weights and adds up one element of each."""

    def __init__(self, ranks: int, share: dict[str, tuple[int, ...]]) -> None:
        from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder

        from optimum_pixart_neuron.neuron.compiler import environment_variables

        class Adds(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, shape in share.items():
                    module, _, own = f"root.{name}".rpartition(".")
                    self._at(module).register_parameter(
                        own, torch.nn.Parameter(torch.empty(shape, dtype=torch.bfloat16), False)
                    )

            def _at(self, path: str) -> torch.nn.Module:
                at: torch.nn.Module = self
                for step in path.split(".")[1:]:
                    if step not in dict(at.named_children()):
                        at.add_module(step, torch.nn.Module())
                    at = getattr(at, step)
                return at

            def forward(self, given: torch.Tensor) -> torch.Tensor:
                return given + sum(each.flatten()[:1].float() for each in self.parameters())

        environment = {"NEURON_PLATFORM_TARGET_OVERRIDE": "trn1", "LOCAL_WORLD_SIZE": str(ranks)}
        with environment_variables(environment), tempfile.TemporaryDirectory() as work:
            builder = ModelBuilder(
                router=None,
                tp_degree=ranks,
                checkpoint_loader=dict,
                local_ranks_size=ranks,
                world_size=ranks,
                compiler_workdir=str(Path(work) / "work"),
            )
            example = [(torch.zeros(1),)]
            builder.add("adds", BaseModelInstance(Adds, {}), example_inputs=example, compiler_args="--target=trn1")
            self._program = builder.trace(initialize_model_weights=False)

    def initialize(self, weights: list[dict[str, torch.Tensor]]) -> None:
        """Begin with these weights."""
        self._program.nxd_model.initialize(weights, torch.tensor([0], dtype=torch.int32))


if __name__ == "__main__":
    main()

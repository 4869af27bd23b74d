"""The VAE decoder in bands of rows against the whole of it on one core: time and error on the emulator.

    python examples/benchmark_decoder.py [--side 512] [--ranks 2] [--rounds 5]

SDXL's geometry with random weights, float32. Both programs run in this one process's emulator, in turns; a rank and
the single core have one thread each. It shows what the split costs and gains on a CPU, and nothing of a NeuronCore.
Writes benchmark_decoder.json beside itself; its exit status is 1 when two ranks take more than 0.65 of one core's time
(goal), or either is off diffusers by more than 1e-4.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from optimum_pixart_neuron.components.vae.graph import PixArtVaeDecoder
from optimum_pixart_neuron.components.vae.spec import VAE
from optimum_pixart_neuron.neuron.compiler import environment_variables
from optimum_pixart_neuron.neuron.sdk import ensure_sdk

CONFIG = VAE.released
GOALS = {"ratio": 0.65, "error": 1e-4}


def main() -> int:
    """Print both medians, their ratio, and the largest difference to diffusers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512, help="Pixels (default: %(default)s).")
    parser.add_argument("--ranks", type=int, default=2, help="Ranks of the bands (default: %(default)s).")
    parser.add_argument("--rounds", type=int, default=5, help="Runs of each (default: %(default)s).")
    args = parser.parse_args()
    ensure_sdk()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vae = AutoencoderKL.from_config(CONFIG).eval()
    latents = torch.randn(1, 4, args.side // 8, args.side // 8)
    with tempfile.TemporaryDirectory() as work, torch.no_grad():
        programs = {"one core": one_core(vae, latents, work), f"{args.ranks} ranks": bands(vae, latents, args, work)}
        results = {name: program(latents)["sample"] for name, program in programs.items()}
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(args.rounds):
            for name, program in programs.items():
                started = time.perf_counter()
                program(latents)
                seconds[name].append(time.perf_counter() - started)
        expected = vae.decode(latents).sample
    whole, split = (statistics.median(times) for times in seconds.values())
    errors = {name: (result - expected).abs().max().item() for name, result in results.items()}
    for name, times in seconds.items():
        print(f"{name:>8}  {statistics.median(times):.2f} s  (of {len(times)}), off diffusers by {errors[name]:.1e}")
    print(f"ratio     {split / whole:.2f}")
    met = max(errors.values()) <= GOALS["error"] and (args.ranks != 2 or split / whole <= GOALS["ratio"])
    record = {"side": args.side, "ranks": args.ranks, "seconds": seconds, "errors": errors, "ratio": split / whole}
    record |= {"goals": GOALS, "met": met}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    return 0 if met else 1


def weights_of(vae: AutoencoderKL, ranks: int) -> dict[str, torch.Tensor]:
    """What the program reads, for the sharder."""
    names = PixArtVaeDecoder(CONFIG, torch.float32).state_dict()
    return {**{name: vae.state_dict()[name] for name in names}, "band_rank.rank": torch.arange(ranks).int()}


def one_core(vae: AutoencoderKL, latents: torch.Tensor, work: str):
    """The whole decoder as a program of one core."""
    import torch_neuronx

    model = PixArtVaeDecoder(CONFIG, torch.float32)
    model.load_state_dict(vae.state_dict(), strict=False)
    program = torch_neuronx.trace(
        model,
        (latents,),
        compiler_workdir=str(Path(work) / "one"),
        compiler_args="--target=trn1 --auto-cast=none",
        inline_weights_to_neff=False,
        cpu_backend=True,
    )
    torch_neuronx.move_trace_to_device(program, 0)
    return program


def bands(vae: AutoencoderKL, latents: torch.Tensor, args: argparse.Namespace, work: str):
    """The decoder in bands, as one program over the ranks."""
    from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder

    def build() -> PixArtVaeDecoder:
        model = PixArtVaeDecoder(CONFIG, torch.float32)
        model.divide_rows(ranks=args.ranks)
        return model

    environment = {"NEURON_PLATFORM_TARGET_OVERRIDE": "trn1", "LOCAL_WORLD_SIZE": str(args.ranks)}
    with environment_variables(environment):
        builder = ModelBuilder(
            router=None,
            tp_degree=args.ranks,
            checkpoint_loader=lambda: weights_of(vae, args.ranks),
            local_ranks_size=args.ranks,
            world_size=args.ranks,
            compiler_workdir=str(Path(work) / "bands"),
        )
        builder.add(
            "decoder", BaseModelInstance(build, {}), example_inputs=[(latents,)], compiler_args="--target=trn1"
        )
        program = builder.trace(initialize_model_weights=False)
        shards = builder.shard_checkpoint()
    program.nxd_model.initialize(shards, torch.tensor([0], dtype=torch.int32))
    return program


if __name__ == "__main__":
    sys.exit(main())

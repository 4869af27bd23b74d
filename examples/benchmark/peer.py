"""One of two processes of cache-dit's Ulysses context parallelism, over gloo; runs in the peer's environment."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

import cache_dit
import torch
import torch.distributed as dist
from diffusers import PixArtTransformer2DModel
from problem import CONTROL, INPUTS, TRANSFORMER, eager_step, use_onednn
from safetensors.torch import load_file
from serving import serve


def main(folder: Path, runtime: str, dtype: torch.dtype, ranks: int, rank: int) -> None:
    def load():
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        if runtime == CONTROL:
            use_onednn()
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        dist.init_process_group("gloo", init_method=f"file://{folder}/{runtime}-store", rank=rank, world_size=ranks)
        model = PixArtTransformer2DModel.from_pretrained(folder / TRANSFORMER, torch_dtype=dtype).eval()
        # Parallelism alone: without a cache config it reuses nothing between steps.
        cache_dit.enable_cache(model, parallelism_config=cache_dit.ParallelismConfig(ulysses_size=ranks))
        versions = {name: version(name) for name in ("cache-dit", "torch", "diffusers", "transformers")}
        return eager_step(model, load_file(folder / INPUTS), dtype), {"threads": 1, "versions": versions}

    serve(load, pids=lambda: [os.getpid()], before=dist.barrier)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], getattr(torch, sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))

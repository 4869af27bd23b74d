"""diffusers' own module, eager, the guidance pair as one batch, on all threads it is given."""

import os
import sys
from pathlib import Path

import torch
from diffusers import PixArtTransformer2DModel
from problem import CONTROL, INPUTS, TRANSFORMER, eager_step, use_onednn
from safetensors.torch import load_file
from serving import serve


def main(folder: Path, runtime: str, dtype: torch.dtype, threads: int) -> None:
    def load():
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        if runtime == CONTROL:
            use_onednn()
        model = PixArtTransformer2DModel.from_pretrained(folder / TRANSFORMER, torch_dtype=dtype).eval()
        return eager_step(model, load_file(folder / INPUTS), dtype), {"threads": threads}

    serve(load, pids=lambda: [os.getpid()])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], getattr(torch, sys.argv[3]), int(sys.argv[4]))

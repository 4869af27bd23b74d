"""Make everything in this folder again: autoencoder, denoiser, fp16 checkpoint, measurements, pictures.

python train.py            # all of it
python train.py --smoke    # a few steps of each part, to see that it runs; the pictures mean nothing
"""

import argparse
import json
import subprocess
import sys
import time

import torch
from common import CHECKPOINT, HERE, RESULTS, update_results
from diffusers import AutoencoderKL, PixArtSigmaPipeline, PixArtTransformer2DModel
from models import build_scheduler
from transformers import T5EncoderModel, T5Tokenizer


def run(script: str, *arguments: object) -> None:
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    print("::", script, *arguments, flush=True)
    subprocess.run(command, check=True)


def round_to_half() -> None:
    """Put the trained parts into one pipeline folder, weights in fp16."""
    pipeline = PixArtSigmaPipeline(
        tokenizer=T5Tokenizer.from_pretrained(CHECKPOINT / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(CHECKPOINT / "text_encoder"),
        transformer=PixArtTransformer2DModel.from_pretrained(CHECKPOINT / "transformer"),
        vae=AutoencoderKL.from_pretrained(CHECKPOINT / "vae"),
        scheduler=build_scheduler(),
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(CHECKPOINT)
    drop_paths()
    size = sum(path.stat().st_size for path in CHECKPOINT.rglob("*") if path.is_file())
    print(f"checkpoint: {size / 1e6:.2f} MB")
    update_results("checkpoint", {"megabytes": round(size / 1e6, 2)})


def drop_paths() -> None:
    """Configs remember where they were loaded from; that is nobody's business."""
    for path in [*CHECKPOINT.glob("*/config.json"), *CHECKPOINT.glob("*/tokenizer_config.json")]:
        config = json.loads(path.read_text())
        for key in ("_name_or_path", "name_or_path"):
            config.pop(key, None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="cores to use")
    parser.add_argument("--smoke", action="store_true", help="a few steps of each part")
    args = parser.parse_args()
    start, few = time.time(), args.smoke
    RESULTS.unlink(missing_ok=True)
    run("train_vae.py", "--threads", args.threads, *(("--steps", 10) if few else ()))
    run("train_denoiser.py", "--processes", args.threads, *(("--steps", 10, "--pictures", 1500) if few else ()))
    round_to_half()
    run("evaluate.py", "--threads", args.threads, *(("--captions", 20, "--steps", 4) if few else ()))
    run("plot_losses.py")
    print(f"done in {(time.time() - start) / 60:.0f} minutes")


if __name__ == "__main__":
    main()

"""Train the picture autoencoder: 256 px pictures <-> 4 x 32 x 32 latents, the factor of 8 that PixArt-Sigma uses.

First on small crops, which cost little, then on larger ones and on whole pictures, so that group norms and the
attention in the middle see what they will see later. Writes checkpoint/vae in fp32; train.py rounds it to fp16.
"""

import argparse
import random

import torch
import torch.nn.functional as F
from common import CHECKPOINT, AveragedWeights, Record, cosine_rate, set_seed, to_tensor
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from tqdm import tqdm
from world import IMAGE_SIZE, draw, random_scene

PEAK_RATE = 2e-3
KL_WEIGHT = 1e-4  # far above Stable Diffusion's: flat pictures need few bits, and smooth latents are easier to denoise
STAGES = ((64, 16, 0.8), (128, 8, 0.12), (IMAGE_SIZE, 4, 0.08))  # crop in px, batch, share of the steps


def build_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 24, 32, 48),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=IMAGE_SIZE,
    )
    start_linear(vae)
    return vae


def start_linear(vae: AutoencoderKL) -> None:
    """Silence every residual branch and nearly all sampling noise, so that training starts from a plain linear code.

    With the default initialisation, group norms hide flat colours and the first thousand steps learn next to nothing.
    """
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            torch.nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            torch.nn.init.zeros_(module.conv2.weight)
        elif isinstance(module, Attention):
            torch.nn.init.zeros_(module.to_out[0].weight)
            module.set_processor(AttnProcessor())  # the fused kernel's bfloat16 backward is far slower on CPU
    torch.nn.init.zeros_(vae.quant_conv.weight.data[4:])
    vae.quant_conv.bias.data[4:] = -5.0  # log variance


def pictures(rng: random.Random, count: int, crop: int) -> torch.Tensor:
    """(count, 3, crop, crop) in [-1, 1], cut anywhere from scenes of the training part of the world."""
    batch = []
    for _ in range(count):
        picture = draw(random_scene(rng), rng)
        left, top = rng.randint(0, IMAGE_SIZE - crop), rng.randint(0, IMAGE_SIZE - crop)
        batch.append(picture[top : top + crop, left : left + crop])
    return to_tensor(batch)


def train(steps: int, seed: int) -> AutoencoderKL:
    rng, record = set_seed(seed), Record("vae")
    vae = build_vae().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    average = AveragedWeights(list(vae.parameters()), decay=0.99)

    def loss_of(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(batch).latent_dist
            noise = torch.randn_like(posterior.mean)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        absolute, square = F.l1_loss(decoded.float(), batch), F.mse_loss(decoded.float(), batch)
        return absolute + square, divergence

    crops = [(crop, size) for crop, size, share in STAGES for _ in range(round(share * steps))]
    progress = tqdm(crops, desc="vae")
    for step, (crop, size) in enumerate(progress):
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(step, len(crops), PEAK_RATE, warmup=50)
        error, divergence = loss_of(pictures(rng, size, crop))
        (error + KL_WEIGHT * divergence).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update()
        record.losses.append(error.item())
        if step % 20 == 0:
            progress.set_postfix(error=f"{error.item():.4f}", kl=f"{divergence.item():.2f}")
    average.swap()
    vae.register_to_config(**measure(vae, rng, record, seed, len(crops)))
    return vae


@torch.no_grad()
def measure(vae: AutoencoderKL, rng: random.Random, record: Record, seed: int, steps: int) -> dict[str, float]:
    """Reconstruction PSNR in dB on 64 fresh pictures, and the scaling factor that gives the latents unit variance."""
    vae.eval()
    batch = pictures(rng, 64, IMAGE_SIZE)
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in batch.split(8)])
    decoded = torch.cat([vae.decode(part).sample for part in latents.split(8)]).clamp(-1, 1)
    errors = ((decoded - batch) / 2).square().mean(dim=(1, 2, 3))
    psnr = (-10 * errors.log10()).mean().item()
    scaling = round(1 / latents.std().item(), 5)
    record.save(seed=seed, steps=steps, psnr_db=round(psnr, 2), scaling_factor=scaling)
    print(f"reconstruction {psnr:.1f} dB, latent mean {latents.mean():.3f} std {latents.std():.3f}")
    return {"scaling_factor": scaling}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.steps, args.seed).save_pretrained(CHECKPOINT / "vae")


if __name__ == "__main__":
    main()

"""Train text encoder and diffusion transformer together to predict the noise in latents of the trained autoencoder.

Needs checkpoint/vae. Latents of all training pictures are computed once and kept in .cache; captions are worded anew
at each visit. A tenth of the captions is emptied for classifier-free guidance, a fifth is loose wording, so that
single words work as negative prompts. Writes checkpoint/{tokenizer,text_encoder,transformer,scheduler}, averaged.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import CHECKPOINT, HERE, AveragedWeights, Record, set_seed, to_tensor, trapezoid_rate
from diffusers import AutoencoderKL
from models import build_scheduler, build_text_encoder, build_transformer, train_tokenizer
from tqdm import tqdm
from transformers import T5Tokenizer
from world import Scene, caption, draw, loose_caption, random_scene

PEAK_RATE = 1e-3
TOKENS = 16  # longest caption of the world, with its end token, rounded up to a multiple of 8
LIMITS = (8.0, 64.0)  # greatest loss weight, in the first steps and after them: a coarse noise estimate comes first,
GENTLE_STEPS = 1750  # then the precision without which single patches of nearly pure noise derail the sampler
EMPTY, LOOSE = 0.1, 0.2  # shares of captions
CACHE = HERE / ".cache"
CHUNK = 1500  # pictures encoded at a time; a chunk that is in the cache is not computed again


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, seed: int) -> tuple[list[Scene], torch.Tensor]:
    """CHUNK random training scenes and their scaled latents, float16 (CHUNK, 4, 32, 32); kept in .cache."""
    rng, drawing = random.Random(seed), random.Random(-1 - seed)
    scenes = [random_scene(rng) for _ in range(CHUNK)]
    path = CACHE / f"latents-{vae.config.scaling_factor}-{seed}.pt"
    if not path.exists():
        parts = []
        for start in tqdm(range(0, CHUNK, 25), desc=f"latents {seed}"):
            pictures = to_tensor([draw(scene, drawing) for scene in scenes[start : start + 25]])
            with torch.autocast("cpu", torch.bfloat16):
                parts.append(vae.encode(pictures).latent_dist.mean.float() * vae.config.scaling_factor)
        torch.save(torch.cat(parts).half(), path)
    return scenes, torch.load(path)


def wording(scene: Scene, rng: random.Random) -> str:
    draw_kind = rng.random()
    if draw_kind < EMPTY:
        return ""
    return loose_caption(scene, rng) if draw_kind < EMPTY + LOOSE else caption(scene, flip=rng.random() < 0.5)


def loss_weights(signal: torch.Tensor, limit: float) -> torch.Tensor:
    """Weight of the noise error at each timestep, from the cumulative product of alphas.

    Min-SNR-5 where there is little noise. Where there is much, the caption decides but moves the noise estimate by
    only sqrt(SNR); a weight of 1/sqrt(SNR), up to `limit`, lets a short training learn from those steps too.
    """
    snr = signal / (1 - signal)
    return snr.clamp(max=5) / snr * snr.rsqrt().clamp(1, limit)


def build_optimizers(models: list[torch.nn.Module]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for all else; Muon's steps are scaled to the size of AdamW's."""
    inner, outer = [], []
    for model in models:
        for name, parameter in model.named_parameters():
            is_block = ".block." in name or name.startswith("transformer_blocks.")
            is_matrix = parameter.ndim == 2 and "table" not in name and "bias" not in name
            (inner if is_block and is_matrix else outer).append(parameter)
    return [
        torch.optim.Muon(inner, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, betas=(0.9, 0.99), weight_decay=0.01, fused=True),
    ]


def suspend(path: Path, step: int, parameters, optimizers, average: AveragedWeights, record: Record) -> None:
    """Keep all that `resume` needs to go on as if nothing had happened; batches follow from seed and step."""
    state = {
        "step": step,
        "parameters": [p.detach() for p in parameters],
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "average": (average.average, average.steps),
        "losses": record.losses,
        "seconds": time.time() - record.start,
    }
    torch.save(state, path)


@torch.no_grad()
def resume(path: Path, parameters, optimizers, average: AveragedWeights, record: Record) -> int:
    """Load what `suspend` kept and return the next step."""
    state = torch.load(path, weights_only=True)
    for parameter, value in zip(parameters, state["parameters"]):
        parameter.copy_(value)
    for optimizer, kept in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(kept)
    average.average, average.steps = state["average"]
    record.losses, record.start = state["losses"], time.time() - state["seconds"]
    return state["step"]


def average_gradients(parameters: list[torch.nn.Parameter], loss: torch.Tensor) -> float:
    """Replace each process's gradients by their mean over all processes; returns the mean loss."""
    flat = torch.cat([loss.detach().view(1), *(p.grad.flatten() for p in parameters)])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat[1:].split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts):
        parameter.grad.copy_(part.view_as(parameter))
    return flat[0].item()


def train(rank: int, args: argparse.Namespace, meeting: str) -> None:
    """One of `args.processes` equal processes, each with its share of every batch; the first one saves."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=args.processes)
    set_seed(args.seed)
    tokenizer = T5Tokenizer.from_pretrained(CHECKPOINT / "tokenizer")
    vae = AutoencoderKL.from_pretrained(CHECKPOINT / "vae").to(memory_format=torch.channels_last).eval()
    seeds = range(args.seed, args.seed + args.pictures // CHUNK)
    for seed in list(seeds)[rank :: args.processes]:
        encode_pictures(vae, seed)
    dist.barrier()
    record = Record("denoiser")
    chunks = [encode_pictures(vae, seed) for seed in seeds]
    scenes, latents = [s for chunk, _ in chunks for s in chunk], torch.cat([part for _, part in chunks])
    text_encoder, transformer, signal = build_text_encoder(), build_transformer(), build_scheduler().alphas_cumprod
    parameters = [*text_encoder.parameters(), *transformer.parameters()]
    gentle, full = (loss_weights(signal, limit) for limit in LIMITS)

    def loss_of(clean, noise, timesteps, weights, ids, mask):
        share = signal[timesteps].view(-1, 1, 1, 1)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16):
            states = text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            predicted = transformer(
                noisy,
                encoder_hidden_states=states,
                encoder_attention_mask=mask,
                timestep=timesteps,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            ).sample
        error = F.mse_loss(predicted.float()[:, :4], noise, reduction="none").mean(dim=(1, 2, 3))
        return (error * weights).mean()

    def batch(step):
        rng = set_seed((args.seed * 1_000_000 + step) * args.processes + rank)
        chosen = [rng.randrange(len(scenes)) for _ in range(args.batch // args.processes)]
        texts = [wording(scenes[i], rng) for i in chosen]
        tokens = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        clean, timesteps = latents[chosen].float(), torch.randint(0, 1000, (len(chosen),))
        weights = (gentle if step < GENTLE_STEPS else full)[timesteps]
        return clean, torch.randn_like(clean), timesteps, weights, tokens.input_ids, tokens.attention_mask

    step_loss = torch.compile(loss_of, dynamic=False) if args.compile else loss_of
    optimizers = build_optimizers([text_encoder, transformer])
    average, state = AveragedWeights(parameters, decay=0.999), CACHE / "denoiser-state.pt"
    first = resume(state, parameters, optimizers, average, record) if args.resume else 0
    progress = tqdm(range(first, args.steps), "denoiser", initial=first, total=args.steps, disable=rank > 0)
    for step in progress:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = trapezoid_rate(step, args.steps, PEAK_RATE, warmup=200)
        loss = step_loss(*batch(step))
        loss.backward()
        record.losses.append(average_gradients(parameters, loss))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{sum(record.losses[-100:]) / len(record.losses[-100:]):.4f}")
        if rank == 0 and ((step + 1) % args.save_every == 0 or step + 1 == args.steps):
            average.swap()
            text_encoder.save_pretrained(CHECKPOINT / "text_encoder")
            transformer.save_pretrained(CHECKPOINT / "transformer")
            average.swap()
            suspend(state, step + 1, parameters, optimizers, average, record)
            settings = {key: getattr(args, key) for key in ("seed", "batch", "pictures", "processes")}
            record.save(steps=step + 1, parameters=sum(p.numel() for p in parameters), **settings)
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=14500)
    parser.add_argument("--batch", type=int, default=64, help="captions and pictures per step, over all processes")
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--resume", action="store_true", help="go on from the last save")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="each uses one core")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="skip torch.compile")
    args = parser.parse_args()
    train_tokenizer(CHECKPOINT / "tokenizer", args.seed)
    build_scheduler().save_pretrained(CHECKPOINT / "scheduler")
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train, (args, f"{folder}/meeting"), args.processes, daemon=True)


if __name__ == "__main__":
    main()

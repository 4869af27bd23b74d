"""A small random PixArt-Sigma checkpoint with all components.

It has the layout, classes and settings of the released checkpoints, including a real T5 tokenizer; only the sizes
are small. The weights are random but not degenerate: the prompt, the padding mask, the timestep and each weight
vector change the outputs visibly, so that a mistake in any of them shows in a comparison.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from .tokenizer import build_tokenizer

_SEEDS = {"text_encoder": 1, "transformer": 2, "vae": 3}
"""Added to the seed of the checkpoint: the size of one component then does not change the weights of another."""


def build_tiny_checkpoint(
    folder: str | Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    heads: int = 8,
    head_dim: int = 8,
    layers: int = 2,
    caption_dim: int = 64,
    text_heads: int = 8,
    text_ff: int = 128,
    text_layers: int = 2,
    sample_size: int = 32,
    alpha: bool = False,
    variant: str | None = None,
    max_shard_size: str = "10GB",
) -> Path:
    """Write the checkpoint in the layout of diffusers, with safetensors weights, and return its folder.

    The global random state is left as it was.

    Args:
        dtype: Type the weights are stored in.
        heads, head_dim, layers: Of the transformer; the width of a head is a multiple of 2.
        caption_dim, text_heads, text_ff, text_layers: Of the text encoder: its width, which its heads must divide, and
            that of its feed-forward layers.
        sample_size: Latent cells per side: 32, 64, 128 or 256 (256 to 2048 pixels). For these diffusers knows aspect
            ratio bins and the pipeline runs with its default `use_resolution_binning`; a picture of any other size
            needs `use_resolution_binning=False`.
        alpha: PixArt-Alpha in place of PixArt-Sigma: its pipeline, the VAE's scaling of Stable Diffusion and, at 128
            cells, a transformer that takes size and aspect ratio, whose width must then be a multiple of 3.
        variant: Put into the names of the weight files, as in `model.fp16.safetensors`.
        max_shard_size: Largest weight file, as in "100KB"; bigger components are split and get an index.
    """
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtSigmaPipeline

    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + _SEEDS["text_encoder"])
        text_encoder = _text_encoder(len(tokenizer), caption_dim, text_heads, text_ff, text_layers)
        torch.manual_seed(seed + _SEEDS["transformer"])
        transformer = _transformer(heads, head_dim, layers, caption_dim, sample_size, alpha and sample_size == 128)
        torch.manual_seed(seed + _SEEDS["vae"])
        vae = _vae(sample_size, 0.18215 if alpha else 0.13025)
    pipeline = (PixArtAlphaPipeline if alpha else PixArtSigmaPipeline)(
        tokenizer=tokenizer,
        text_encoder=text_encoder.to(dtype),
        vae=vae.to(dtype),
        transformer=transformer.to(dtype),
        scheduler=DPMSolverMultistepScheduler(beta_schedule="linear", beta_end=0.02, algorithm_type="dpmsolver++"),
    )
    pipeline.save_pretrained(folder, safe_serialization=True, variant=variant, max_shard_size=max_shard_size)
    return Path(folder)


def _text_encoder(vocabulary: int, width: int, heads: int, ff: int, layers: int) -> nn.Module:
    """T5 v1.1: gated GELU, separate embeddings."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        # The released encoder's table is longer than the tokenizer's vocabulary, too.
        vocab_size=-(-vocabulary // 64) * 64,
        d_model=width,
        d_kv=width // heads,
        d_ff=ff,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        dropout_rate=0.1,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    encoder = T5EncoderModel(config).eval()
    _make_lively(encoder)
    with torch.no_grad():
        # As strong as the products of queries and keys, so that a bias of the wrong head is seen.
        encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.normal_(std=1.0)
    return encoder


def _transformer(
    heads: int, head_dim: int, layers: int, caption_dim: int, sample_size: int, conditions: bool
) -> nn.Module:
    from diffusers import PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        num_layers=layers,
        cross_attention_dim=heads * head_dim,
        caption_channels=caption_dim,
        in_channels=4,
        out_channels=8,
        patch_size=2,
        sample_size=sample_size,
        interpolation_scale=max(sample_size // 64, 1),
        use_additional_conditions=conditions,
    ).eval()
    _make_lively(transformer)
    with torch.no_grad():
        for block in transformer.transformer_blocks:
            # Sharper attention: near-uniform weights would hide a wrong scale or mask.
            for attention in (block.attn1, block.attn2):
                attention.to_q.weight.mul_(2.0)
                attention.to_k.weight.mul_(2.0)
            block.attn2.to_out[0].weight.mul_(2.0)
        transformer.adaln_single.linear.weight.mul_(2.0)
        transformer.proj_out.weight.mul_(0.5)
    return transformer


def _vae(sample_size: int, scaling: float) -> nn.Module:
    """The autoencoder of SDXL in small: 4 latent channels, 8 pixels per latent cell."""
    from diffusers import AutoencoderKL

    channels = (16, 16, 32, 32)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=8 * sample_size,
        scaling_factor=scaling,
    ).eval()
    _make_lively(vae)
    return vae


@torch.no_grad()
def _make_lively(module: nn.Module) -> None:
    """Give every linear and convolution unit gain, and make every vector (bias, norm weight) matter.

    Freshly made norms are all ones and biases zeros: a forward pass that forgets them gives the same result.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.weight.normal_(std=part.weight[0].numel() ** -0.5)
    for parameter in module.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)

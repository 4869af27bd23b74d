"""Floating-point operations of one core in one run of each program, counted as torch's `FlopCounterMode` does.

A product of (m, k) and (k, n) matrices is 2 m k n; nothing but matrix products and convolutions counts. Exponentials
of softmaxes are counted beside them: they take the Scalar Engine as long as the products take the Tensor Engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from .geometry import TextEncoderSize, TransformerSize, VaeSize
from .placement import TransformerShare

# Rows of the systolic array, and the parts of it that one product may take alone (NKI `nki.isa.nc_matmul`, row tiles).
ARRAY_ROWS = 128
_ROW_TILES = (32, 64, ARRAY_ROWS)


@dataclass(frozen=True)
class Work:
    """What the engines of one core have to do.

    Attributes:
        flops: of products and convolutions.
        array_flops: the same with every contraction filled up to whole row tiles of the systolic array: what its peak
            is divided into. Heads of 72 channels, for example, take as long as heads of 128.
        exponentials: of softmaxes.
    """

    flops: int = 0
    array_flops: int = 0
    exponentials: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.flops + other.flops, self.array_flops + other.array_flops, self.exponentials + other.exponentials
        )

    def __mul__(self, times: int) -> Work:
        return Work(self.flops * times, self.array_flops * times, self.exponentials * times)


def product(rows: int, contracted: int, columns: int) -> Work:
    """(rows, contracted) times (contracted, columns)."""
    whole, rest = divmod(contracted, ARRAY_ROWS)
    filled = whole * ARRAY_ROWS + (next(tile for tile in _ROW_TILES if tile >= rest) if rest else 0)
    return Work(2 * rows * contracted * columns, 2 * rows * filled * columns)


def attention(queries: int, keys: int, heads: int, head_width: int) -> Work:
    """Scores, their softmax, and the weighted values."""
    one_head = product(queries, head_width, keys) + product(queries, keys, head_width)
    return one_head * heads + Work(exponentials=heads * queries * keys)


def text_encoder_work(size: TextEncoderSize, *, rows: int, tokens: int, ranks: int) -> Work:
    """T5 on `rows` prompts; heads and feed-forward channels are divided over `ranks`."""
    inner, feed_forward = size.inner // ranks, size.feed_forward // ranks
    layer = product(tokens, size.width, inner) * 3 + product(tokens, inner, size.width)
    layer += attention(tokens, tokens, size.heads // ranks, size.head_width)
    layer += product(tokens, size.width, feed_forward) * (2 if size.gated else 1)
    layer += product(tokens, feed_forward, size.width)
    return layer * size.layers * rows


def transformer_work(size: TransformerSize, share: TransformerShare) -> Work:
    """One core's part of one prediction.

    Tokens are divided after the patch embedding; every sequence rank projects the whole text for itself. Tensor ranks
    divide the blocks' matrices and nothing else.
    """
    width, inner = size.width, size.width // share.tensor_ranks
    tokens, text, patch = share.own_tokens, share.text_tokens, size.patch**2
    feed_forward = size.FEED_FORWARD_FACTOR * inner
    queries, keys, heads = share.attended(size.heads)

    block = product(tokens, width, inner) * 3 + product(tokens, inner, width)
    block += attention(queries, keys, heads, size.head_width)
    block += product(tokens, width, inner) + product(text, width, inner) * 2 + product(tokens, inner, width)
    block += attention(tokens, text, size.heads // share.tensor_ranks, size.head_width)
    block += product(tokens, width, feed_forward) + product(tokens, feed_forward, width)

    around = product(share.tokens, size.in_channels * patch, width)
    around += product(1, size.TIMESTEP_CHANNELS, width) + product(1, width, width) + product(1, width, 6 * width)
    around += product(text, size.caption_channels, width) + product(text, width, width)
    around += product(tokens, width, size.out_channels * patch)
    return (block * size.layers + around) * share.rows


def vae_decoder_work(size: VaeSize, *, height: int, width: int) -> Work:
    """One decoded tile or image of (height, width) latent cells, on one core."""
    cells, deepest = height * width, size.channels[-1]
    work = _convolution(cells, size.latent_channels, size.latent_channels, 1) if size.post_quant else Work()
    work += _convolution(cells, size.latent_channels, deepest)
    work += _resnet(cells, deepest, deepest) * 2
    if size.mid_attention:
        work += product(cells, deepest, deepest) * 4 + attention(cells, cells, 1, deepest)
    for level in levels(size):
        cells = height * width * level.magnified**2
        for entering in level.entering:
            work += _resnet(cells, entering, level.channels)
        if level.upsamples:
            work += _convolution(4 * cells, level.channels, level.channels)
    return work + _convolution(cells, size.channels[0], size.image_channels)


@dataclass(frozen=True)
class VaeLevel:
    """One up block of the decoder.

    Attributes:
        channels: that leave each of its resnets.
        entering: channels that enter each of them.
        magnified: sides of its images over those of the latents.
        upsamples: whether it doubles the sides at its end.
    """

    channels: int
    entering: tuple[int, ...]
    magnified: int
    upsamples: bool


def levels(size: VaeSize) -> list[VaeLevel]:
    """The up blocks, in their order: from the latents outwards."""
    outwards = size.channels[::-1]
    return [
        VaeLevel(
            channels=channels,
            entering=(outwards[max(index - 1, 0)], *[channels] * (size.resnets - 1)),
            magnified=2**index,
            upsamples=index < len(outwards) - 1,
        )
        for index, channels in enumerate(outwards)
    ]


def _convolution(cells: int, entering: int, leaving: int, side: int = 3) -> Work:
    return product(cells, entering * side**2, leaving)


def _resnet(cells: int, entering: int, leaving: int) -> Work:
    work = _convolution(cells, entering, leaving) + _convolution(cells, leaving, leaving)
    return work if entering == leaving else work + _convolution(cells, entering, leaving, 1)

"""Bytes of one core for each program: weights exactly, activations as an estimate of what the export counts.

`itemsize` is the bytes of one weight; the position table alone is float32. The activations are the largest of what is
alive at once at the points of a program that can be its fullest, where each program was found to be.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..components.common.attention_kernel import choose_kernel
from .flops import levels
from .geometry import TextEncoderSize, TransformerSize, VaeSize
from .placement import TransformerShare

FLOAT32 = 4
# The kernel of SDK 2.26, which optimum-neuron 0.4.5 pins.
SDK_KERNELS = ("attention_isa_kernel",)


@dataclass(frozen=True)
class Footprint:
    """Bytes of one core for one program.

    Attributes:
        weights: of this rank.
        read: of these, what one run reads; of an embedding table it reads single rows.
        activations: estimate of the largest set of values alive at once.
    """

    weights: int
    read: int
    activations: int


def text_encoder_footprint(size: TextEncoderSize, *, rows: int, tokens: int, ranks: int, itemsize: int) -> Footprint:
    """T5 with its finished position bias as a weight; heads and feed-forward channels divided over `ranks`."""
    inner, feed_forward = size.inner // ranks, size.feed_forward // ranks
    matrices = 4 * size.width * inner + (3 if size.gated else 2) * size.width * feed_forward
    layers = size.layers * (matrices + 2 * size.width) + size.width
    bias = size.heads // ranks * tokens**2
    table = size.vocabulary * size.width

    states = rows * tokens * size.width
    scores = rows * (size.heads // ranks) * tokens**2
    activations = max(
        2 * FLOAT32 * scores + itemsize * (states + rows * tokens * inner),  # softmax, beside residual and values
        2 * FLOAT32 * states + itemsize * states,  # norm, beside the residual
        3 * itemsize * rows * tokens * feed_forward + 2 * itemsize * states,  # gated feed-forward
    )
    return Footprint(
        weights=itemsize * (layers + bias + table),
        read=itemsize * (layers + bias + rows * tokens * size.width),
        activations=activations,
    )


def transformer_footprint(
    size: TransformerSize, share: TransformerShare, *, lnc: int, dtype: str, itemsize: int
) -> Footprint:
    """The diffusion transformer; only tensor ranks divide its weights."""
    width, inner = size.width, size.width // share.tensor_ranks
    feed_forward = size.FEED_FORWARD_FACTOR * inner
    attention = 4 * width * inner + (3 * inner if size.attention_bias else 0) + width
    block = 2 * attention + 2 * width * feed_forward + feed_forward + width + 6 * width
    patch = size.patch**2
    around = width * (size.in_channels * patch + 1)  # patch embedding
    around += width * (size.TIMESTEP_CHANNELS + 1) + width * (width + 1) + 6 * width * (width + 1)  # timestep
    around += width * (size.caption_channels + 1) + width * (width + 1)  # caption projection
    around += 2 * width + size.out_channels * patch * (width + 1)  # last modulation and projection
    weights = itemsize * (size.layers * block + around) + FLOAT32 * share.tokens * width
    return Footprint(
        weights=weights,
        read=weights,
        activations=_transformer_activations(size, share, lnc=lnc, dtype=dtype, itemsize=itemsize),
    )


def _transformer_activations(
    size: TransformerSize, share: TransformerShare, *, lnc: int, dtype: str, itemsize: int
) -> int:
    rows, tokens, width = share.rows, share.own_tokens, size.width
    states = itemsize * rows * tokens * width
    caption = itemsize * rows * share.text_tokens * width
    queries, keys, heads = share.attended(size.heads)
    # What the exchange brings, or the values alone: keys and values; queries, keys and values.
    copies = {"gather": 2, "all-to-all": 3}.get(share.exchange or "", 1)
    attended = itemsize * rows * keys * heads * size.head_width * copies
    kernel = choose_kernel(
        "auto",
        head_width=size.head_width,
        query_tokens=queries,
        key_tokens=keys,
        batch_heads=rows * heads,
        lnc=lnc,
        dtype=dtype,
        available=SDK_KERNELS,
    )
    scores = 0 if kernel else 2 * FLOAT32 * rows * heads * queries * keys
    cross_scores = 2 * FLOAT32 * rows * (size.heads // share.tensor_ranks) * tokens * share.text_tokens
    given_text = share.given_rows * share.text_tokens * size.caption_channels
    return max(
        scores + attended + states + caption,
        cross_scores + states + 2 * caption,
        2 * FLOAT32 * rows * tokens * width + states + caption,  # norm
        2 * states * size.FEED_FORWARD_FACTOR // share.tensor_ranks + states + caption,  # feed-forward
        (FLOAT32 + itemsize) * rows * share.tokens * width,  # patches, before the tokens are divided
        (FLOAT32 + itemsize) * given_text,  # the text as it enters
    )


def vae_decoder_footprint(size: VaeSize, *, height: int, width: int, itemsize: int) -> Footprint:
    """The VAE decoder for tiles or images of (height, width) latent cells."""
    deepest, cells = size.channels[-1], height * width
    parameters = size.latent_channels * (size.latent_channels + 1) if size.post_quant else 0
    parameters += _convolution(size.latent_channels, deepest) + 2 * _resnet(deepest, deepest)
    peaks = [_resnet_activations(cells, deepest, deepest, itemsize)]
    if size.mid_attention:
        parameters += 2 * deepest + 4 * deepest * (deepest + 1)
        peaks.append(2 * FLOAT32 * cells**2 + 2 * itemsize * cells * deepest)
    for level in levels(size):
        cells = height * width * level.magnified**2
        for entering in level.entering:
            parameters += _resnet(entering, level.channels)
            peaks.append(_resnet_activations(cells, entering, level.channels, itemsize))
        if level.upsamples:
            parameters += _convolution(level.channels, level.channels)
            peaks.append(2 * itemsize * 4 * cells * level.channels)
    parameters += 2 * size.channels[0] + _convolution(size.channels[0], size.image_channels)
    weights = itemsize * parameters
    return Footprint(weights=weights, read=weights, activations=max(peaks))


def _convolution(entering: int, leaving: int, side: int = 3) -> int:
    return leaving * (entering * side**2 + 1)


def _resnet(entering: int, leaving: int) -> int:
    parameters = 2 * entering + _convolution(entering, leaving) + 2 * leaving + _convolution(leaving, leaving)
    return parameters if entering == leaving else parameters + _convolution(entering, leaving, 1)


def _resnet_activations(cells: int, entering: int, leaving: int, itemsize: int) -> int:
    """In one of the two group norms, which are float32; what entered is kept for the end."""
    return cells * (2 * FLOAT32 * max(entering, leaving) + itemsize * entering)

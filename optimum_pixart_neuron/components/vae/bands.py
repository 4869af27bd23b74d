"""Run one half of the VAE on several ranks, each with a band of the picture's rows, exactly.

Rank r of W owns band r of W equal bands at every resolution. Convolutions get the rows they read beyond their band
from the neighbours, group norms take their statistics over all ranks, the attention of the mid block has own rows as
queries and gathers keys and values; the rest of the graph is local. All ranks run one program, so the rank is a weight
(NxD's `SPMDRank`), and what a rank reads of a gathered tensor is picked by it.

Where W does not divide the latent rows, the last bands end with rows that the picture does not have. They are zero
when a convolution reads them, as its padding would be, and stay out of norms, attention and picture.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn

from ..common.attention import WrittenOutAttnProcessor, attend
from ..common.precision import Float32GroupNorm

LARGEST_SCORES = 64 << 20
"""Bytes of float32 attention scores that exist at once: queries are taken in chunks of as many as fit."""


class Bands:
    """Who owns which rows, and what ranks tell each other.

    Args:
        ranks: W.
        rank: gives this rank's number as an int32 tensor (1,).
        gather: (...) of each rank -> (W, ...) on every rank, in their order.
    """

    def __init__(self, ranks: int, rank: Callable[[], Tensor], gather: Callable[[Tensor], Tensor]) -> None:
        self.ranks = ranks
        self.rank = rank
        self.gather = gather
        self.latent_rows = self.own_rows = 0

    def settle(self, latent_rows: int) -> None:
        """Divide a picture of so many latent rows; before anything else is asked."""
        self.latent_rows, self.own_rows = latent_rows, -(-latent_rows // self.ranks)

    @property
    def is_even(self) -> bool:
        """Whether no band has rows beyond the picture."""
        return self.own_rows * self.ranks == self.latent_rows

    def pick(self, whole: Tensor) -> Tensor:
        """Own band (B, C, rows, w) of a tensor (B, C, H, w) that every rank has whole."""
        rows = self.ranks * self.own_rows * (whole.shape[2] // self.latent_rows)
        whole = F.pad(whole, (0, 0, 0, rows - whole.shape[2]))
        return self._of_this_rank(whole.unflatten(2, (self.ranks, -1)), dim=2)

    def join(self, band: Tensor) -> Tensor:
        """Own band of each rank -> the whole (B, C, H, w) on every rank."""
        whole = self.gather(band).permute(1, 2, 0, 3, 4).flatten(2, 3)
        return whole[:, :, : self.latent_rows * (band.shape[2] // self.own_rows)]

    def with_edges(self, band: Tensor, above: int, below: int) -> Tensor:
        """The band with the rows next to it, (B, C, above + rows + below, w); zeros beyond the picture.

        Args:
            above: rows of the rank before, at most as many as a band has.
            below: rows of the rank after, likewise.
        """
        if not self.is_even:
            band = band * self._valid(band.shape[2], band.dtype)
        if above == below == 0:
            return band
        edges = self.gather(torch.cat([band[:, :, :below], band[:, :, band.shape[2] - above :]], dim=2))
        nothing = torch.zeros_like(edges[:1])
        before = torch.cat([nothing, edges[:-1]])[:, :, :, below:]
        after = torch.cat([edges[1:], nothing])[:, :, :, :below]
        return torch.cat([self._of_this_rank(before, dim=0), band, self._of_this_rank(after, dim=0)], dim=2)

    def moments(self, grouped: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over all ranks' rows of the picture.

        Each rank sends its own mean and its own sum of squared distances from it, two numbers a group; they are joined
        as Chan, Golub and LeVeque do (1983, "Algorithms for Computing the Sample Variance"), which loses nothing where
        the mean is large.

        Args:
            grouped: (B, groups, channels, rows, w) float32.

        Returns:
            two of (B, groups, 1, 1, 1) float32.
        """
        over = (2, 3, 4)
        a_row = grouped.shape[2] * grouped.shape[4]
        counts = [a_row * rows for rows in self._picture_rows(grouped.shape[3])]
        if self.is_even:
            mean = grouped.mean(over)
            squares = (grouped - mean[..., None, None, None]).square().sum(over)
        else:
            valid = self._valid(grouped.shape[3], grouped.dtype)
            mean = (grouped * valid).sum(over) / (a_row * valid.sum()).clamp(min=1)
            squares = ((grouped - mean[..., None, None, None]) * valid).square().sum(over)
        means, squares = self.gather(torch.stack([mean, squares])).unbind(1)
        shares = [count / sum(counts) for count in counts]
        overall = _weighted(means, shares)
        variance = squares.sum(0) / sum(counts) + _weighted((means - overall).square(), shares)
        return overall[..., None, None, None], variance[..., None, None, None]

    def tokens_of_all(self, tokens: Tensor) -> Tensor:
        """Own tokens (B, rows x w, C), row by row -> the picture's (B, H x w, C)."""
        whole = self.gather(tokens).transpose(0, 1).flatten(1, 2)
        return whole[:, : tokens.shape[1] // self.own_rows * self.latent_rows]

    def _picture_rows(self, rows: int) -> list[int]:
        """Rows of the picture in each rank's band of `rows`."""
        end = self.latent_rows * (rows // self.own_rows)
        return [min(max(end - rank * rows, 0), rows) for rank in range(self.ranks)]

    def _valid(self, rows: int, dtype: torch.dtype) -> Tensor:
        """(rows, 1): 1 for the rows of own band that the picture has, 0 beyond it."""
        table = [[float(row < count) for row in range(rows)] for count in self._picture_rows(rows)]
        return self._of_this_rank(torch.tensor(table, dtype=dtype), dim=0)[:, None]

    def _of_this_rank(self, parts: Tensor, dim: int) -> Tensor:
        return parts.index_select(dim, self.rank()).squeeze(dim)


def _weighted(parts: Tensor, shares: list[float]) -> Tensor:
    if len(set(shares)) == 1:
        return parts.mean(0)
    return (parts * torch.tensor(shares).reshape(-1, *[1] * (parts.dim() - 1))).sum(0)


class _BandedConv2d(nn.Conv2d):
    """A convolution on a band. What it reads beyond its band follows from its kernel, stride and padding."""

    bands: Bands

    def forward(self, input: Tensor) -> Tensor:
        assert not isinstance(self.padding, str)  # diffusers gives numbers
        (size, _), (stride, _), (padding, side) = self.kernel_size, self.stride, self.padding
        band = self.bands.with_edges(input, above=padding, below=size - stride - padding)
        return F.conv2d(band, self.weight, self.bias, self.stride, (0, side), self.dilation, self.groups)


class _BandedGroupNorm(Float32GroupNorm):
    """A group norm of a picture, on a band (B, C, rows, w)."""

    bands: Bands

    def forward(self, input: Tensor) -> Tensor:
        grouped = input.float().unflatten(1, (self.num_groups, -1))
        mean, variance = self.bands.moments(grouped)
        normal = ((grouped - mean) * (variance + self.eps).rsqrt()).flatten(1, 2)
        return (normal * self.weight.float()[:, None, None] + self.bias.float()[:, None, None]).to(input.dtype)


class _BandedDownsample2D(Downsample2D):
    """Halves a band. diffusers (0.35) pads a column and a row behind the picture; the row is the neighbour's first."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.conv(F.pad(hidden_states, (0, 1)))


class _BandedAttnProcessor(WrittenOutAttnProcessor):
    """Self-attention over a picture: own rows are the queries, everybody's the keys and values."""

    def __init__(self, bands: Bands) -> None:
        self.bands = bands

    def normalized(self, attn: Attention, hidden_states: Tensor) -> Tensor:
        normal = hidden_states if attn.group_norm is None else attn.group_norm(hidden_states)  # of a band as it is
        return normal.flatten(2).transpose(1, 2)

    def attended(self, attn: Attention, tokens: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        both = self.bands.tokens_of_all(torch.cat([attn.to_k(context), attn.to_v(context)], dim=-1))
        query, key, value = (
            each.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for each in (attn.to_q(tokens), *both.chunk(2, dim=-1))
        )
        rows, heads, keys = key.shape[:3]
        chunk = max(LARGEST_SCORES // (4 * rows * heads * keys), 1)
        attended = torch.cat([attend(part, key, value) for part in query.split(chunk, dim=2)], dim=2)
        return attended.transpose(1, 2).flatten(2)


def divide_rows(module: nn.Module, bands: Bands) -> None:
    """Make `module`, an encoder or decoder of the VAE in float32 norms, compute on a band, in place."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            _become(child, _BandedConv2d, bands)
        elif isinstance(child, Float32GroupNorm):
            _become(child, _BandedGroupNorm, bands)
        elif isinstance(child, Downsample2D):
            child.__class__ = _BandedDownsample2D
        elif isinstance(child, Attention):
            child.set_processor(_BandedAttnProcessor(bands))


def _become(module: Any, banded: type[nn.Module], bands: Bands) -> None:
    module.__class__, module.bands = banded, bands

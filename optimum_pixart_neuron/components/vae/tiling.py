"""Decode an image in overlapping tiles of one compiled size, and blend them.

The overlap and the linear blend are diffusers' (0.35 `AutoencoderKL.tiled_decode`: a quarter of the tile); the tiles
are all of one size, because the program is compiled for one, so they are placed evenly instead of leaving a rest.
"""

import math
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

OVERLAP = 0.25  # of a tile, at least


def tile_starts(length: int, tile: int) -> list[int]:
    """Where tiles begin so that they cover `length` evenly and neighbours share at least a quarter of a tile."""
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / (tile * (1 - OVERLAP))) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


class TiledDecoder:
    """A callable like the compiled decoder for latents of any size from the tile's on.

    Args:
        decode: takes any number of tiles (n, channels, tile height, tile width) and returns `{"sample": images}`.
        tiles: height and width in latent cells of each tile that `decode` takes; the largest one in an image is used.
        scale: pixels a latent cell.
    """

    def __init__(
        self, decode: Callable[[Tensor], dict[str, Tensor]], tiles: Sequence[tuple[int, int]], scale: int
    ) -> None:
        self.decode = decode
        self.tiles = tuple(tiles)
        self.scale = scale

    def __call__(self, latents: Tensor) -> dict[str, Tensor]:
        """Decode (B, channels, h, w) latents to `sample` (B, 3, h * scale, w * scale)."""
        height, width = latents.shape[-2:]
        inside = [tile for tile in self.tiles if tile[0] <= height and tile[1] <= width]
        tall, wide = max(inside or [(height, width)], key=prod)
        if (tall, wide) == (height, width):
            return self.decode(latents)
        corners = [(top, left) for top in tile_starts(height, tall) for left in tile_starts(width, wide)]
        tiles = [latents[:, :, top : top + tall, left : left + wide] for top, left in corners]
        decoded = self.decode(torch.cat(tiles))["sample"].chunk(len(corners))
        scale = self.scale
        columns = _windows(tile_starts(width, wide), wide, scale)
        rows = _windows(tile_starts(height, tall), tall, scale)
        image = decoded[0].new_zeros(*decoded[0].shape[:2], height * scale, width * scale)
        for tile, (top, left) in zip(decoded, corners):
            window = rows[top][:, None] * columns[left][None, :]
            down, right = top * scale, left * scale
            image[:, :, down : down + tall * scale, right : right + wide * scale] += tile * window
        return {"sample": image}


def _windows(starts: list[int], tile: int, scale: int) -> dict[int, Tensor]:
    """The weight of each pixel along one side of each tile; the weights of all tiles add up to one everywhere.

    Linear from 0 to 1 over what a tile shares with its neighbour, 1 elsewhere; divided by the sum, because where tiles
    share more than a half three of them meet.
    """
    windows, total = {}, torch.zeros((starts[-1] + tile) * scale)
    for index, start in enumerate(starts):
        window = torch.ones(tile * scale)
        if index > 0:
            shared = (starts[index - 1] + tile - start) * scale
            window[:shared] = _ramp(shared)
        if index + 1 < len(starts):
            shared = (start + tile - starts[index + 1]) * scale
            window[-shared:] *= 1 - _ramp(shared)
        windows[start] = window
        total[start * scale : (start + tile) * scale] += window
    return {start: window / total[start * scale : (start + tile) * scale] for start, window in windows.items()}


def _ramp(length: int) -> Tensor:
    return (torch.arange(length, dtype=torch.float32) + 0.5) / length

"""Where the tiles of an image lie, along one side; without torch, so that a plan can count them."""

import math

OVERLAP = 0.25  # of a tile, at least


def tile_starts(length: int, tile: int) -> list[int]:
    """Where tiles begin so that they cover `length` evenly and neighbours share at least a quarter of a tile."""
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / (tile * (1 - OVERLAP))) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]

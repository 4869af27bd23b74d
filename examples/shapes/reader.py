"""Read a picture back: which shapes of which colour and size are where, by rules alone, with no learned part.

`read` looks only at the picture. `judge` compares what was read with the scene that a caption described. As a script
it reports how often it reads the world's own drawings right, which bounds what can be measured with it.
"""

import random
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from world import COLOURS, GROUNDS, IMAGE_SIZE, LINES, PLACES, SHAPES, Scene, Thing, coverage, draw, random_scene

CELL = 4  # px; blobs are joined on a grid of cells this wide
SMALLEST = 24  # cells of 4 x 4 px; a small triangle, the least of all shapes, covers about 45
LARGE_FROM = 200  # cells; small shapes stay below 130, large ones start at about 260
ASPECTS = ("colour", "shape", "size", "position", "count", "ground")


@dataclass(frozen=True)
class Found:
    """One blob: what it looks like and its centre of mass in px."""

    thing: Thing
    x: float
    y: float


def read(picture: np.ndarray) -> tuple[str, list[Found]]:
    """Ground and things in a uint8 (256, 256, 3) picture."""
    names, palette = list(GROUNDS), np.array(list(GROUNDS.values()), np.float32)
    pixels = picture.astype(np.float32)
    border = np.concatenate([pixels[:6].reshape(-1, 3), pixels[-6:].reshape(-1, 3)])
    ground = names[int(_distance(np.median(border, axis=0), palette).argmin())]
    differs = _distance(pixels, np.array([GROUNDS[ground]], np.float32))[..., 0] > 60
    side = IMAGE_SIZE // CELL
    grid = differs.reshape(side, CELL, side, CELL).mean(axis=(1, 3)) > 0.5
    blobs = [cells for cells in _blobs(grid) if len(cells) >= SMALLEST]
    return ground, [_describe(pixels, differs, cells) for cells in blobs]


def judge(picture: np.ndarray, scene: Scene) -> dict[str, bool]:
    """For each aspect, whether the picture shows all that the scene's caption says about it.

    Colour, shape and size hold only if every thing named has the right one and nothing else is drawn; what was found
    is paired with what was named in the way that agrees best.
    """
    ground, found = read(picture)
    verdict = dict.fromkeys(ASPECTS, False)
    verdict["ground"] = ground == scene.ground
    verdict["count"] = len(found) == len(scene.things)
    if not verdict["count"]:
        return verdict
    best = max(permutations(found), key=lambda order: _agreement(order, scene.things))
    for aspect in ("colour", "shape", "size"):
        verdict[aspect] = all(getattr(f.thing, aspect) == getattr(t, aspect) for f, t in zip(best, scene.things))
    verdict["position"] = _position_holds(best, scene.layout)
    return verdict


def _agreement(found: tuple[Found, ...], named: tuple[Thing, ...]) -> int:
    pairs = [(f.thing, t) for f, t in zip(found, named)]
    return sum((f.size == t.size) + (f.colour == t.colour) + (f.shape == t.shape) for f, t in pairs)


def _position_holds(found: tuple[Found, ...], layout: str) -> bool:
    if layout in PLACES:
        distance = {place: (found[0].x - x) ** 2 + (found[0].y - y) ** 2 for place, (x, y) in PLACES.items()}
        return min(distance, key=distance.get) == layout
    if layout in LINES:
        xs, ys = np.ptp([f.x for f in found]), np.ptp([f.y for f in found])
        return bool(xs > 3 * ys if layout == "row" else ys > 3 * xs)
    right, down = found[1].x - found[0].x, found[1].y - found[0].y
    return right > abs(down) if layout == "left of" else down > abs(right)


def _describe(pixels: np.ndarray, differs: np.ndarray, cells: list[tuple[int, int]]) -> Found:
    """Colour by the nearest palette entry of the median, shape by the best overlap with the four outlines."""
    mask = np.zeros_like(differs)
    for row, column in cells:
        mask[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = True
    grown = np.pad(mask, CELL)
    near = sum(np.roll(grown, shift, axis) for axis in (0, 1) for shift in (-CELL, 0, CELL))[CELL:-CELL, CELL:-CELL]
    mask = differs & (near > 0)
    rows, columns = np.nonzero(mask)
    y, x, area = rows.mean() + 0.5, columns.mean() + 0.5, len(rows)
    palette = np.array(list(COLOURS.values()), np.float32)
    colour = list(COLOURS)[int(_distance(np.median(pixels[mask], axis=0), palette).argmin())]
    shape = max(SHAPES, key=lambda name: _overlap(mask, name, x, y, area))
    size = "large" if area >= LARGE_FROM * CELL * CELL else "small"
    return Found(Thing(size, colour, shape), x, y)


def _overlap(mask: np.ndarray, shape: str, x: float, y: float, area: float) -> float:
    """Intersection over union of a blob with a shape of the same area and centre of mass."""
    unit = {"circle": np.pi, "square": 3.24, "triangle": 2.195, "cross": 2.766}[shape]  # area at radius 1
    centre = np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5
    outline = coverage(shape, centre[None, :] - x, centre[:, None] - y, (area / unit) ** 0.5) > 0.5
    return (mask & outline).sum() / (mask | outline).sum()


def _blobs(grid: np.ndarray) -> list[list[tuple[int, int]]]:
    """Groups of set cells that touch by an edge."""
    left, groups = {(int(r), int(c)) for r, c in zip(*np.nonzero(grid))}, []
    while left:
        group = [left.pop()]
        for row, column in group:
            for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if cell in left:
                    left.remove(cell)
                    group.append(cell)
        groups.append(group)
    return groups


def _distance(pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Distance in RGB of each pixel (..., 3) to each palette colour: (..., colours)."""
    return np.linalg.norm(pixels[..., None, :] - palette, axis=-1)


def share_right(verdicts: list[dict[str, bool]]) -> dict[str, float]:
    """Percentage of pictures right in each aspect, and in all of them at once."""
    shares = {aspect: 100 * float(np.mean([v[aspect] for v in verdicts])) for aspect in ASPECTS}
    shares["all"] = 100 * float(np.mean([all(v.values()) for v in verdicts]))
    return {name: round(share, 1) for name, share in shares.items()}


def main() -> None:
    rng = random.Random(1)
    scenes = [random_scene(rng, held_out_only=True) for _ in range(500)]
    print(share_right([judge(draw(scene, rng), scene) for scene in scenes]))


if __name__ == "__main__":
    main()

"""A closed world of captions and pictures: at most four flat shapes on a coloured ground, drawn procedurally.

A `Scene` says what is where in words; `caption` puts it into a sentence, `draw` into a picture, so the two always
agree. Nothing is read from disk and nothing is downloaded: a seed gives the same captions and pictures everywhere.
"""

import hashlib
import random
from dataclasses import dataclass

import numpy as np

IMAGE_SIZE = 256  # px; with the 8x VAE the latents are 32 x 32, the smallest size PixArt-Sigma's resolution bins know

COLOURS = {
    "red": (225, 35, 35),
    "green": (30, 160, 55),
    "blue": (35, 70, 225),
    "yellow": (250, 215, 30),
    "purple": (130, 40, 160),
    "orange": (250, 125, 10),
}
GROUNDS = {"white": (250, 250, 250), "black": (15, 15, 15), "pink": (250, 185, 205), "cyan": (150, 230, 235)}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": (20.0, 25.0), "large": (44.0, 50.0)}  # radius range in px
PLACES = {"center": (128, 128), "left": (64, 128), "right": (192, 128), "top": (128, 64), "bottom": (128, 192)}
RELATIONS = {"left of": "right of", "above": "below"}  # canonical relation -> the same seen from the other thing
LINES = ("row", "column")
COUNTS = {2: "two", 3: "three", 4: "four"}
LINE_SPACING = 58  # px between the centres of neighbours in a row or column


@dataclass(frozen=True)
class Thing:
    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `layout` is a place (one thing), a relation (two) or a line (two to four equal things)."""

    ground: str
    layout: str
    things: tuple[Thing, ...]


def caption(scene: Scene, flip: bool = False) -> str:
    """The full sentence for a scene; `flip` tells a relation from its second thing ("b right of a")."""
    first = scene.things[0]
    if scene.layout in PLACES:
        return f"a {first} {_place(scene.layout)} on {scene.ground}"
    if scene.layout in LINES:
        return f"{COUNTS[len(scene.things)]} {_plural(str(first))} in a {scene.layout} on {scene.ground}"
    second = scene.things[1]
    if flip:
        return f"a {second} {RELATIONS[scene.layout]} a {first} on {scene.ground}"
    return f"a {first} {scene.layout} a {second} on {scene.ground}"


def loose_caption(scene: Scene, rng: random.Random) -> str:
    """A true sentence, or a single true word, that leaves much open; negative prompts are like that."""
    if rng.random() < 0.35:
        thing = rng.choice(scene.things)
        return rng.choice([thing.colour, thing.colour, thing.shape, thing.size, scene.ground, f"on {scene.ground}"])
    things = [_loose_thing(thing, rng) for thing in scene.things]
    if scene.layout in PLACES:
        text = things[0] + (f" {_place(scene.layout)}" if rng.random() < 0.4 else "")
    elif scene.layout in LINES:
        count = COUNTS[len(things)] if rng.random() < 0.7 else "some"
        text = f"{count} {_plural(things[0])}" + (f" in a {scene.layout}" if rng.random() < 0.4 else "")
    else:
        text = f"{things[0]} {scene.layout if rng.random() < 0.5 else 'and'} {_article(things[1])}"
    text = text if scene.layout in LINES else _article(text)
    return text + (f" on {scene.ground}" if rng.random() < 0.5 else "")


def held_out(scene: Scene) -> bool:
    """True for the tenth of all scenes that no training script ever shows, by a hash of the canonical caption."""
    return hashlib.sha256(caption(scene).encode()).digest()[0] % 10 == 0


def random_scene(rng: random.Random, held_out_only: bool = False) -> Scene:
    """One scene from the training part of the world, or from the held-out part: 30% one thing, 50% two, 20% a line."""
    while True:
        kind = rng.random()
        things = (_random_thing(rng),)
        if kind < 0.3:
            layout = rng.choice(list(PLACES))
        elif kind < 0.8:
            layout = rng.choice(list(RELATIONS))
            things += (_random_thing(rng),)
            if (things[0].colour, things[0].shape) == (things[1].colour, things[1].shape):
                continue
        else:
            layout = rng.choice(LINES)
            things = (Thing("small", things[0].colour, things[0].shape),) * rng.choice(list(COUNTS))
        scene = Scene(rng.choice(list(GROUNDS)), layout, things)
        if held_out(scene) == held_out_only:
            return scene


def draw(scene: Scene, rng: random.Random, size: int = IMAGE_SIZE) -> np.ndarray:
    """Picture of a scene, uint8 (size, size, 3); exact centres and radii within the words' range come from `rng`."""
    scale = size / IMAGE_SIZE
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = GROUNDS[scene.ground]
    for thing, (x, y) in zip(scene.things, _centres(scene, rng)):
        low, high = SIZES[thing.size]
        _paint(picture, thing, x * scale, y * scale, rng.uniform(low, high) * scale)
    return picture.round().astype(np.uint8)


def coverage(shape: str, dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """How much of each pixel at offset (dx, dy) px from the centre a shape covers, 0 to 1, with one pixel of edge."""
    if shape == "circle":
        distance = np.hypot(dx, dy) - radius
    elif shape == "square":
        distance = np.maximum(abs(dx), abs(dy)) - 0.9 * radius
    elif shape == "triangle":
        down, side = dy, 0.866 * abs(dx) - 0.5 * dy
        distance = np.maximum(down, side) - 0.65 * radius
    else:
        long, short = 1.1 * radius, 0.38 * radius
        distance = np.minimum(
            np.maximum(abs(dx) - long, abs(dy) - short),
            np.maximum(abs(dx) - short, abs(dy) - long),
        )
    return np.clip(0.5 - distance, 0.0, 1.0)


def _paint(picture: np.ndarray, thing: Thing, x: float, y: float, radius: float) -> None:
    size, reach = picture.shape[0], 1.4 * radius + 1
    left, right = max(0, int(x - reach)), min(size, int(x + reach) + 1)
    top, bottom = max(0, int(y - reach)), min(size, int(y + reach) + 1)
    dx = np.arange(left, right, dtype=np.float32)[None, :] + 0.5 - x
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - y
    alpha = coverage(thing.shape, dx, dy, radius)[..., None]
    part = picture[top:bottom, left:right]
    part += alpha * (np.array(COLOURS[thing.colour], np.float32) - part)


def _centres(scene: Scene, rng: random.Random) -> list[tuple[float, float]]:
    """Centre (x, y) in px of a 256 px picture for each thing."""
    if scene.layout in PLACES:
        x, y = PLACES[scene.layout]
        return [(x + rng.uniform(-8, 8), y + rng.uniform(-8, 8))]
    if scene.layout in LINES:
        across, count = rng.uniform(-24, 24), len(scene.things)
        along = [(i - (count - 1) / 2) * LINE_SPACING + rng.uniform(-2, 2) for i in range(count)]
        points = [(128 + a, 128 + across) for a in along]
        return points if scene.layout == "row" else [(y, x) for x, y in points]
    points = [(near + rng.uniform(-8, 8), 128 + rng.uniform(-20, 20)) for near in (66, 190)]
    return points if scene.layout == "left of" else [(y, x) for x, y in points]


def _place(layout: str) -> str:
    return "in the center" if layout == "center" else f"at the {layout}"


def _loose_thing(thing: Thing, rng: random.Random) -> str:
    words = [word for word in (thing.size, thing.colour) if rng.random() < 0.5]
    return " ".join([*words, thing.shape if rng.random() < 0.7 else "shape"])


def _article(noun: str) -> str:
    return f"an {noun}" if noun.startswith("orange") else f"a {noun}"


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("cross") else "s")


def _random_thing(rng: random.Random) -> Thing:
    return Thing(rng.choice(list(SIZES)), rng.choice(list(COLOURS)), rng.choice(SHAPES))

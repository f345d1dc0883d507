"""Scenes: one or two pictograms on a plain background, and what is to be said of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sprites import SIDE, STYLES
from words import COLOURS, JITTER, NOUNS, caption

NOUN_NAMES = list(NOUNS)
COLOUR_NAMES = list(COLOURS)
# Sides of a pictogram relative to the canvas' shorter side.
ONE_SIZES = (0.40, 0.85)
TWO_SIZES = (0.34, 0.50)
_RESAMPLINGS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@dataclass
class Scene:
    """A composed picture."""

    image: Image.Image  # RGB
    nouns: list[int]  # from left to right
    colour: int
    boxes: list[tuple[float, float, float, float]]  # x0, y0, x1, y1 of each noun, in 0..1

    def caption(self) -> str:
        """The one right caption."""
        return caption([NOUN_NAMES[n] for n in self.nouns], COLOUR_NAMES[self.colour])


def load_sprites(folder: Path) -> np.ndarray:
    """[style, noun, SIDE, SIDE, 4], premultiplied RGBA."""
    return np.load(folder / "sprites.npz")["sprites"]


def _place(canvas: np.ndarray, sprite: np.ndarray, x: int, y: int) -> None:
    """Lays a premultiplied RGBA sprite over an RGB canvas, in place; it must lie inside."""
    h, w = sprite.shape[:2]
    under = canvas[y : y + h, x : x + w]
    alpha = 255 - sprite[:, :, 3:].astype(np.uint16)
    under[:] = np.minimum(255, sprite[:, :, :3] + (under * alpha + 127) // 255)


def _background(rng: np.random.Generator, colour: int, width: int, height: int) -> np.ndarray:
    hue = np.array(COLOURS[COLOUR_NAMES[colour]]) + rng.integers(-JITTER, JITTER + 1, 3)
    return np.broadcast_to(np.clip(hue, 0, 255).astype(np.uint8), (height, width, 3)).copy()


def compose(
    rng: np.random.Generator,
    sprites: np.ndarray,
    styles: list[int],
    nouns: list[int],
    colour: int,
    size: tuple[int, int],
) -> Scene:
    """A scene of the nouns, each in its style, from left to right on a canvas of (width, height)."""
    width, height = size
    canvas = _background(rng, colour, width, height)
    low, high = ONE_SIZES if len(nouns) == 1 else TWO_SIZES
    boxes = []
    column = width / len(nouns)
    for index, (noun, style) in enumerate(zip(nouns, styles, strict=True)):
        side = int(min(rng.uniform(low, high) * min(width, height), column))
        image = Image.fromarray(sprites[style, noun], "RGBa")
        resampling = _RESAMPLINGS[rng.integers(len(_RESAMPLINGS))]
        sprite = np.asarray(image.resize((side, side), resampling, reducing_gap=2.0))
        # Anywhere in its column: left and right are never in doubt, high and low are free.
        x = int(index * column + rng.uniform(0, 1) * (column - side))
        y = int(rng.uniform(0, 1) * (height - side))
        _place(canvas, sprite, x, y)
        boxes.append((x / width, y / height, (x + side) / width, (y + side) / height))
    return Scene(Image.fromarray(canvas), nouns, colour, boxes)


def draw(
    rng: np.random.Generator,
    sprites: np.ndarray,
    styles: tuple[str, ...],
    size: tuple[int, int],
    pairs: float,
) -> Scene:
    """A random scene in the given styles; a share of `pairs` shows two things."""
    count = 2 if rng.random() < pairs else 1
    nouns = [int(n) for n in rng.choice(len(NOUN_NAMES), count, replace=False)]
    chosen = [STYLES.index(styles[rng.integers(len(styles))]) for _ in nouns]
    return compose(rng, sprites, chosen, nouns, int(rng.integers(len(COLOUR_NAMES))), size)


def as_read(image: Image.Image, side: int) -> np.ndarray:
    """What the engine makes of a picture: side x side by antialiased bilinear, uint8 RGB."""
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)


assert SIDE >= 112

"""Scenes for training, composed at the model's resolution: a hundred times as fast as `scenes`.

A bank holds every pictogram at many sizes, aspects and sub-pixel offsets, shrunk as a whole picture
would be. It is renewed bit by bit, so that nothing is seen often enough to be learnt by heart.
"""

import numpy as np
from PIL import Image

from scenes import COLOUR_NAMES, NOUN_NAMES, ONE_SIZES, TWO_SIZES, _place
from sprites import SIDE as SPRITE_SIDE
from words import COLOURS, JITTER

_ASPECT = 1.35  # canvases are at most this much wider than high, or higher than wide
_HUES = np.array([COLOURS[name] for name in COLOUR_NAMES])


class Bank:
    """Shrunken pictograms, by noun."""

    def __init__(self, sprites: np.ndarray, side: int, variants: int, rng: np.random.Generator):
        self.sprites = sprites  # [style, noun, SPRITE_SIDE, SPRITE_SIDE, 4]
        self.side = side
        self.rng = rng
        kinds = ("one", "two")
        self.shrunk = {
            (kind, noun): [self._shrink(kind, noun) for _ in range(variants)]
            for kind in kinds
            for noun in range(len(NOUN_NAMES))
        }

    def _shrink(self, kind: str, noun: int) -> np.ndarray:
        """One pictogram, [h, w, 4] premultiplied, as it comes out when its picture is resized."""
        rng = self.rng
        low, high = ONE_SIZES if kind == "one" else TWO_SIZES
        # The drawn side is relative to the shorter side of the canvas; squeezing the canvas into a
        # square shrinks the longer side's direction.
        squeeze = 1.0 if rng.random() < 0.5 else rng.uniform(1 / _ASPECT, 1.0)
        long = rng.uniform(low, high) * self.side
        w, h = (long * squeeze, long) if rng.random() < 0.5 else (long, long * squeeze)
        dx, dy = rng.uniform(0, 1, 2)
        out_w, out_h = int(np.ceil(w + dx)), int(np.ceil(h + dy))
        sx, sy = SPRITE_SIDE / w, SPRITE_SIDE / h
        # The sprite on a transparent sheet that becomes out_w x out_h when shrunk.
        sheet = Image.new("RGBa", (round(out_w * sx), round(out_h * sy)))
        style = int(rng.integers(len(self.sprites)))
        sheet.paste(Image.fromarray(self.sprites[style, noun], "RGBa"), (int(dx * sx), int(dy * sy)))
        return np.asarray(sheet.resize((out_w, out_h), Image.Resampling.BILINEAR))

    def renew(self, count: int) -> None:
        """Replaces some of the pictograms."""
        keys = list(self.shrunk)
        for _ in range(count):
            key = keys[self.rng.integers(len(keys))]
            held = self.shrunk[key]
            held[self.rng.integers(len(held))] = self._shrink(*key)

    def scene(self, pairs: float):
        """(pixels uint8 [side, side, 3], nouns, colour, boxes in pixels)."""
        rng, side = self.rng, self.side
        count = 2 if rng.random() < pairs else 1
        nouns = [int(n) for n in rng.choice(len(NOUN_NAMES), count, replace=False)]
        colour = int(rng.integers(len(COLOUR_NAMES)))
        hue = _HUES[colour] + rng.integers(-JITTER, JITTER + 1, 3)
        canvas = np.empty((side, side, 3), np.uint8)
        canvas[:] = np.clip(hue, 0, 255)
        column = side / count
        boxes = []
        for index, noun in enumerate(nouns):
            held = self.shrunk["one" if count == 1 else "two", noun]
            sprite = held[rng.integers(len(held))]
            h, w = sprite.shape[:2]
            x = int(index * column + rng.uniform(0, 1) * max(0.0, column - w))
            x = min(x, side - w)
            y = int(rng.uniform(0, 1) * (side - h))
            _place(canvas, sprite, x, y)
            boxes.append((x, y, x + w, y + h))
        return canvas, nouns, colour, boxes

    def batch(self, size: int, pairs: float):
        """(pixels float [n, 3, side, side] in -1..1, scenes)."""
        scenes = [self.scene(pairs) for _ in range(size)]
        pixels = np.stack([s[0] for s in scenes]).transpose(0, 3, 1, 2)
        return (pixels.astype(np.float32) / 255 - 0.5) / 0.5, scenes

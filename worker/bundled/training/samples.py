"""Draws samples/pictures and the scenes of the test suite. Trained styles only.

    python samples.py SPRITES REPOSITORY
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from evaluate import held_out
from scenes import COLOUR_NAMES, NOUN_NAMES, compose, load_sprites
from sprites import STYLES

SIZE = (256, 256)
SUITE_COUNT = 24
SUITE_SEED = 30_000
SUITE_SIDE = 160
# Nouns with their styles, and the background.
PICTURES = (
    (("dog", "noto"), ("red apple", "fluent"), "yellow"),
    (("owl", "fluent"), "turquoise"),
    (("bicycle", "twemoji"), ("tree", "noto"), "white"),
    (("rocket", "noto"), "black"),
    (("penguin", "twemoji"), ("umbrella", "fluent"), "pink"),
    (("cactus", "fluent"), "orange"),
    (("cat", "twemoji"), ("fish", "noto"), "green"),
    (("hamburger", "noto"), "purple"),
    (("guitar", "fluent"), ("crown", "twemoji"), "blue"),
    (("elephant", "twemoji"), "red"),
    (("key", "noto"), ("house", "fluent"), "grey"),
    (("butterfly", "noto"), ("sunflower", "twemoji"), "brown"),
)


def save(image: Image.Image, path: Path) -> None:
    """As a PNG of 128 colours: small, and close enough to the eye."""
    image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    sprites = load_sprites(Path(sys.argv[1]))
    repository = Path(sys.argv[2])
    pictures = repository / "samples/pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(40_000)
    for *things, colour in PICTURES:
        nouns = [NOUN_NAMES.index(noun) for noun, _ in things]
        styles = [STYLES.index(style) for _, style in things]
        scene = compose(rng, sprites, styles, nouns, COLOUR_NAMES.index(colour), SIZE)
        name = "-".join([*(noun.replace(" ", "-") for noun, _ in things), colour])
        save(scene.image, pictures / f"{name}.png")
    suite = repository / "tests/fixtures/pictures"
    suite.mkdir(parents=True, exist_ok=True)
    expected = {}
    for index, scene in enumerate(held_out(sprites, "seen", SUITE_COUNT, SUITE_SEED)):
        shrunk = scene.image
        shrunk.thumbnail((SUITE_SIDE, SUITE_SIDE), Image.Resampling.BILINEAR)
        save(shrunk, suite / f"{index:02}.png")
        expected[f"{index:02}.png"] = scene.caption()
    (suite / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()

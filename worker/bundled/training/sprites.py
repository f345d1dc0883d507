"""Draws the pictograms of every style once: DIR/sprites.npz, premultiplied RGBA, 160x160.

    python sprites.py DIR

DIR holds the unpacked packages (README.md says which and where from):
`noto/` (the Debian package fonts-noto-color-emoji), `twemoji/`, `openmoji/`, `fluent/` (npm).
"""

import io
import sys
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image, ImageDraw, ImageFont

from words import NOUNS

SIDE = 160
STYLES = ("noto", "twemoji", "fluent", "openmoji")
# OpenMoji is kept out of training: it shows how far the model gets with a style it never saw.
TRAINED = STYLES[:3]
NOTO_BITMAP = 109  # the one size the font's bitmaps exist in


def first(folder: Path, code: str, ending: str) -> Path:
    """The file of a code point, with or without the variation selector in its name."""
    for name in (code, f"{code}-fe0f"):
        for spelt in (name.lower(), name.upper()):
            path = folder / f"{spelt}.{ending}"
            if path.exists():
                return path
    raise FileNotFoundError(f"{folder} has no {code}.{ending}")


def drawn(folder: Path, style: str, code: str) -> Image.Image:
    """One pictogram as its set draws it, RGBA."""
    if style == "noto":
        path = next((folder / "noto").rglob("NotoColorEmoji.ttf"))
        font = ImageFont.truetype(str(path), NOTO_BITMAP)
        image = Image.new("RGBA", (180, 180), (0, 0, 0, 0))
        ImageDraw.Draw(image).text((20, 20), chr(int(code, 16)), font=font, embedded_color=True)
        return image
    if style == "fluent":
        return Image.open(first(folder / "fluent/package/assets", code, "webp")).convert("RGBA")
    svgs = {"twemoji": "twemoji/package", "openmoji": "openmoji/package/color/svg"}[style]
    svg = first(folder / svgs, code, "svg").read_text()
    png = resvg_py.svg_to_bytes(svg_string=svg, width=320, height=320)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def fitted(image: Image.Image) -> np.ndarray:
    """Cut to what is drawn, centred in SIDE x SIDE, premultiplied, uint8."""
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        raise ValueError("an empty pictogram")
    image = image.crop(box).convert("RGBa")
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(s * scale)) for s in image.size)
    image = image.resize(size, Image.Resampling.LANCZOS)
    out = np.zeros((SIDE, SIDE, 4), np.uint8)
    x, y = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    out[y : y + size[1], x : x + size[0]] = np.asarray(image)
    return out


def main() -> None:
    folder = Path(sys.argv[1])
    # [style, noun, SIDE, SIDE, 4]
    sprites = np.stack(
        [np.stack([fitted(drawn(folder, s, c)) for c in NOUNS.values()]) for s in STYLES]
    )
    np.savez_compressed(folder / "sprites.npz", sprites=sprites)
    print(f"{folder / 'sprites.npz'}: {sprites.shape}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes pictures of every format and colour kind, and what the reference image processor makes of
them, into ../fixtures/images: the files, and views.safetensors.

Needs: transformers, torch, torchvision, pillow, numpy, safetensors. Their versions are written into
the metadata of views.safetensors.

    python3 make_images.py

Tensors of a picture `a.png`:
    a.png/80         [views, 80, 80, 3] uint8   every value at a side of 80
    a.png/896        [n] uint8                  every 293rd value at a side of 896
and with pan and scan, for those in CROPPED, the same under a.png/80/crops.
"""
import io
import pathlib

import numpy
import PIL
import torch
import torchvision
import transformers
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from transformers import Gemma3ImageProcessor

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "images"
SMALL, LARGE, STRIDE = 80, 896, 293
CROPPED = {"wide.png", "tall.jpg", "turned-6.jpg", "band.png", "photo.jpg"}


def smooth(width, height, seed=0):
    """Slow waves of colour with a few shapes on them: [height, width, 3] uint8."""
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float32)
    u, v = x / max(width, 2), y / max(height, 2)
    waves = [numpy.sin(6.3 * (a * u + b * v) + seed + c) for a, b, c in ((1, 0.5, 0), (0.4, 1.3, 2), (1.1, 1, 4))]
    pixels = numpy.stack(waves, -1) * 100 + 128
    ring = numpy.abs(numpy.hypot(u - 0.6, v - 0.4) - 0.25) < 0.06
    pixels[ring] = (240, 30, 60)
    box = (u > 0.1) & (u < 0.35) & (v > 0.55) & (v < 0.9)
    pixels[box] = (20, 60, 200)
    return pixels.round().astype(numpy.uint8)


def grain(width, height, seed, strength=12):
    noise = numpy.random.default_rng(seed).normal(0, strength, (height, width, 1))
    return (smooth(width, height, seed) + noise).clip(0, 255).astype(numpy.uint8)


def opacity(width, height):
    y, x = numpy.mgrid[0:height, 0:width]
    alpha = (255 * x / max(width - 1, 1)).astype(numpy.uint8)
    alpha[(y // 8) % 3 == 0] = 255
    return alpha


def grey(pixels):
    return numpy.asarray(Image.fromarray(pixels).convert("L"))


def with_alpha(pixels):
    return numpy.dstack([pixels, opacity(pixels.shape[1], pixels.shape[0])])


def encoded(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def png16(pixels, colour_type):
    """A PNG of 16 bits a channel, which Pillow writes for grey only: its values are those of 8 bits
    with something below."""
    import struct
    import zlib

    deep = pixels.astype(numpy.uint16) * 256 + 77
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def files():
    """Name and bytes of each picture."""
    of = Image.fromarray
    yield "dot.png", encoded(of(smooth(1, 1)), "PNG")
    yield "dot.jpg", encoded(of(smooth(1, 1)), "JPEG")
    yield "column.png", encoded(of(smooth(1, 10_000)), "PNG")
    yield "row.png", encoded(of(smooth(10_000, 1)), "PNG")
    yield "tiny.png", encoded(of(grain(7, 5, 1)), "PNG")
    yield "exact.png", encoded(of(smooth(80, 80)), "PNG")
    yield "grain.png", encoded(of(grain(230, 190, 2)), "PNG")
    yield "wide.png", encoded(of(smooth(900, 300).round(-1)), "PNG", optimize=True)
    yield "band.png", encoded(of((smooth(1500, 290) // 16) * 16), "PNG", optimize=True)
    # Rows repeat, so that 24 million pixels stay small.
    steps = (smooth(6000, 40) // 32) * 32
    yield "huge.png", encoded(of(numpy.repeat(steps, 100, axis=0)), "PNG", optimize=True)
    yield "grey.png", encoded(of(grey(grain(160, 120, 3))), "PNG")
    yield "bits.png", encoded(of(grey(smooth(160, 120)) > 128), "PNG")
    yield "palette.png", encoded(of(smooth(200, 150)).quantize(32), "PNG")
    clear = of(smooth(200, 150)).quantize(16)
    yield "palette-clear.png", encoded(clear, "PNG", transparency=3)
    yield "alpha.png", encoded(of(with_alpha(smooth(200, 150)), "RGBA"), "PNG")
    la = numpy.dstack([grey(smooth(120, 160)), opacity(120, 160)])
    yield "grey-alpha.png", encoded(Image.fromarray(la, "LA"), "PNG")
    yield "deep.png", png16(smooth(120, 90), 2)
    yield "deep-grey.png", png16(grey(smooth(120, 90)), 0)
    yield "deep-alpha.png", png16(with_alpha(smooth(120, 90)), 6)
    yield "photo.jpg", encoded(of(grain(640, 420, 4)), "JPEG", quality=85)
    yield "photo-444.jpg", encoded(of(grain(320, 240, 5)), "JPEG", quality=92, subsampling=0)
    yield "photo-422.jpg", encoded(of(grain(321, 241, 6)), "JPEG", quality=80, subsampling=1)
    yield "small-420.jpg", encoded(of(smooth(61, 47)), "JPEG", quality=75, subsampling=2)
    yield "tall.jpg", encoded(of(smooth(300, 1000)), "JPEG", quality=80)
    yield "large.jpg", encoded(of(smooth(4000, 3000)), "JPEG", quality=40)
    yield "progressive.jpg", encoded(of(grain(333, 257, 7)), "JPEG", quality=85, progressive=True)
    yield "grey.jpg", encoded(of(grey(grain(200, 300, 8))), "JPEG", quality=85)
    yield "cmyk.jpg", encoded(of(smooth(240, 180)).convert("CMYK"), "JPEG", quality=90)
    for orientation in range(2, 9):
        turned = of(smooth(300, 200 if orientation != 6 else 120, orientation))
        if orientation == 6:
            turned = turned.resize((900, 360))
        yield f"turned-{orientation}.jpg", encoded(turned, "JPEG", quality=85, exif=exif(orientation))
    yield "turned-8.png", encoded(of(smooth(90, 60)), "PNG", exif=exif(8))
    yield "lossy.webp", encoded(of(grain(300, 220, 9)), "WEBP", quality=80)
    yield "lossless.webp", encoded(of(smooth(200, 140)), "WEBP", lossless=True)
    yield "alpha.webp", encoded(of(with_alpha(smooth(120, 140)), "RGBA"), "WEBP", lossless=True, exact=True)
    first, second = (of(smooth(120, 90, seed)).quantize(64) for seed in (0, 1))
    yield "moving.gif", encoded(first, "GIF", save_all=True, append_images=[second])
    yield "clear.gif", encoded(clear, "GIF", transparency=3)
    yield "plain.bmp", encoded(of(smooth(61, 40)), "BMP")
    yield "plain.tif", encoded(of(smooth(90, 70)), "TIFF")
    yield "lzw.tif", encoded(of(smooth(90, 70)), "TIFF", compression="tiff_lzw")
    yield "cmyk.tif", encoded(of(smooth(60, 50)).convert("CMYK"), "TIFF", compression="tiff_deflate")


def opened(name, data):
    """As the reference opens pictures, with what is transparent made white first."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):
        image = Image.fromarray((numpy.asarray(image) // 256).astype(numpy.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def views(image, side, crops):
    processor = Gemma3ImageProcessor(
        size={"height": side, "width": side}, do_rescale=False, do_normalize=False,
        do_pan_and_scan=crops, pan_and_scan_min_crop_size=256, pan_and_scan_max_num_crops=4,
        pan_and_scan_min_ratio_to_activate=1.2)
    pixels = processor(images=[[image]], return_tensors="pt")["pixel_values"]
    return numpy.ascontiguousarray(pixels.numpy().round().astype(numpy.uint8).transpose(0, 2, 3, 1))


def main():
    FOLDER.mkdir(exist_ok=True)
    tensors, size = {}, 0
    for name, data in files():
        (FOLDER / name).write_bytes(data)
        size += len(data)
        image = opened(name, data)
        tensors[f"{name}/80"] = views(image, SMALL, False)
        tensors[f"{name}/896"] = numpy.ascontiguousarray(views(image, LARGE, False).reshape(-1)[::STRIDE])
        if name in CROPPED:
            tensors[f"{name}/80/crops"] = views(image, SMALL, True)
            print(name, "crops", len(tensors[f"{name}/80/crops"]) - 1)
        print(f"{name:18} {image.size} {len(data)} bytes")
    versions = {
        module.__name__: str(module.__version__)
        for module in (transformers, torch, torchvision, PIL, numpy)
    }
    save_file(tensors, FOLDER / "views.safetensors", metadata=versions)
    print(size, "bytes of pictures,", (FOLDER / "views.safetensors").stat().st_size, "of views")


main()

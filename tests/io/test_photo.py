"""Tests of decoding: all formats and modes, and files that are damaged, hostile or no photo."""

from __future__ import annotations

import io
import os
import random
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from photos import ALL_FORMATS, LOSSLESS, LOSSY, assert_pixels, encode, grey, noise, smooth
from PIL import Image, ImageFile

from fastcnn.errors import ImageError
from fastcnn.io import _photo
from fastcnn.io.image import load_image

CAT = Path(__file__).parents[2] / "examples/cat.png"


# -- formats and modes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats(format):
    expected = noise(13, 9, 3) // 86 * 100  # 27 colours: GIF has 256
    image = Image.fromarray(expected)
    if format == "GIF":
        image = image.quantize(64)
        expected = np.array(image.convert("RGB"))
    assert_pixels(load_image(encode(image, format, **LOSSLESS[format])), expected)


@pytest.mark.parametrize("format", LOSSY)
def test_lossy_formats(format):
    expected = smooth(64, 48)
    assert_pixels(load_image(encode(Image.fromarray(expected), format, **LOSSY[format])), expected, tolerance=8)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_dropped(format):
    pixels = noise(7, 5, 4)
    settings = {"exact": True} if format == "WEBP" else {}
    content = encode(Image.fromarray(pixels), format, **LOSSLESS[format], **settings)
    assert_pixels(load_image(content), pixels[:, :, :3])


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_grey(format):
    values = noise(7, 5)
    assert_pixels(load_image(encode(Image.fromarray(values), format, **LOSSLESS[format])), grey(values))


def test_grey_with_alpha():
    pixels = noise(7, 5, 2)
    assert_pixels(load_image(encode(Image.frombytes("LA", (5, 7), pixels.tobytes()), "PNG")), grey(pixels[:, :, 0]))


@pytest.mark.parametrize(
    ("format", "settings"),
    [
        ("PNG", {}),
        ("PNG", {"transparency": 3}),
        ("PNG", {"transparency": bytes(range(0, 256, 16))}),
        ("GIF", {}),
        ("GIF", {"transparency": 3}),
        ("BMP", {}),
        ("TIFF", {}),
    ],
)
def test_palette(format, settings):
    indices, palette = noise(6, 5) % 16, noise(16, 3, seed=1)
    image = Image.frombytes("P", (5, 6), indices.tobytes())
    image.putpalette(palette.tobytes())
    content = encode(image, format, **settings)
    opened = Image.open(io.BytesIO(content))
    for source in (image, content, opened):
        assert_pixels(load_image(source), palette[indices])
    assert opened.mode == "P" and opened.info.get("transparency") == settings.get("transparency")


def test_palette_with_alpha():
    indices, palette = noise(6, 5) % 16, noise(16, 4, seed=1)
    image = Image.frombytes("P", (5, 6), indices.tobytes())
    image.putpalette(palette.tobytes(), "RGBA")
    for source in (image, encode(image, "PNG")):
        assert_pixels(load_image(source), palette[indices, :3])


def test_transparent_colour():
    pixels = noise(6, 5, 3)
    content = encode(Image.fromarray(pixels), "PNG", transparency=tuple(pixels[0, 0].tolist()))
    assert_pixels(load_image(content), pixels)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "BMP"])
def test_one_bit(format):
    bits = noise(9, 11) > 127
    content = encode(Image.fromarray(bits), format)
    assert_pixels(load_image(content), grey(bits.astype(np.uint8) * 255))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_grey_keeps_the_upper_8(format):
    values = np.random.default_rng(0).integers(0, 65536, (6, 5), np.uint16)
    values[0, :2] = 0, 65535
    if format == "PPM":
        content = b"P5 5 6 65535\n" + values.astype(">u2").tobytes()
    else:
        content = encode(Image.fromarray(values), format)
    assert_pixels(load_image(content), grey((values // 256).astype(np.uint8)))


def test_16_bit_grey_of_the_other_byte_order():
    values = np.arange(0, 60000, 2000, np.uint16).reshape(5, 6)
    image = Image.frombytes("I;16B", (6, 5), values.astype(">u2").tobytes())
    assert_pixels(load_image(image), grey((values // 256).astype(np.uint8)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused(mode):
    content = encode(Image.new(mode, (3, 2), 70000), "TIFF")
    with pytest.raises(ImageError, match=rf"the bytes: pixels of 32 bits \(mode '{mode}'\), expected 8 or 16"):
        load_image(content)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk(format):
    image = Image.fromarray(smooth(32, 24)).convert("CMYK")
    content = encode(image, format, **({"quality": 95} if format == "JPEG" else {}))
    assert_pixels(load_image(content), np.array(image.convert("RGB")), tolerance=8)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX", "RGBa", "PA"])
def test_rarer_modes_of_pillow(mode):
    assert load_image(Image.new(mode, (5, 6))).shape == (6, 5, 3)


def test_modes_that_pillow_cannot_convert_are_refused():
    with pytest.raises(ImageError, match="the PIL image: damaged, or not supported: conversion from La"):
        load_image(Image.new("La", (5, 6)))


def test_the_first_of_several_frames():
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    for format in ("GIF", "TIFF", "PNG", "WEBP"):
        content = encode(frames[0], format, save_all=True, append_images=frames[1:], **LOSSLESS[format])
        assert_pixels(load_image(content), np.full((3, 4, 3), [255, 0, 0]))


# What the first stored row and the first stored column are of the upright image: EXIF 2.32, table 6.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation(format, orientation):
    stored = smooth(24, 16)
    sides = SIDES[orientation]
    upright = stored if sides[0] in ("top", "bottom") else stored.transpose(1, 0, 2)
    upright = upright[::-1] if "bottom" in sides else upright
    upright = upright[:, ::-1] if "right" in sides else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(stored), format, exif=exif, **ALL_FORMATS[format])
    expected, tolerance = (upright, 8) if format == "JPEG" else (upright, 0)
    assert_pixels(load_image(content), expected, tolerance)
    assert_pixels(load_image(Image.open(io.BytesIO(content))), expected, tolerance)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_are_none(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = noise(4, 3, 3)
    assert_pixels(load_image(encode(Image.fromarray(pixels), "PNG", exif=exif)), pixels)


# -- damaged and hostile files -----------------------------------------------------------------------------


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (178_956_971, 1), (1, 178_956_971)])
def test_bombs_are_refused_by_their_header(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(*size, png_chunk(b"IDAT", zlib.compress(bytes(1000)))))
    with pytest.raises(ImageError, match=rf"{path}: too large: .*{size[0] * size[1]} pixels"):
        load_image(path)


def test_max_pixels():
    content = png(100, 200, png_chunk(b"IDAT", zlib.compress(bytes(200 * 301))))
    assert load_image(content, max_pixels=20_000).shape == (200, 100, 3)
    for source in (content, Image.open(io.BytesIO(content))):
        with pytest.raises(ImageError, match="too large: 100 x 200 pixels, more than max_pixels=19999"):
            load_image(source, max_pixels=19_999)


def test_pillows_limit_is_left_alone(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    pixels = noise(10, 10, 3)
    assert_pixels(load_image(encode(Image.fromarray(pixels), "PNG")), pixels)  # Pillow warns from 60, refuses from 120
    with pytest.raises(ImageError, match="too large"):
        load_image(encode(Image.new("RGB", (11, 11)), "PNG"))
    assert Image.MAX_IMAGE_PIXELS == 60 and not ImageFile.LOAD_TRUNCATED_IMAGES


def with_corrupt_exif(format: str) -> bytes:
    """An intact photo whose EXIF points outside of the file: Pillow warns of it."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 0x010F, 2, 5000, 9000) * 2
    return encode(Image.fromarray(smooth(16, 16)), format, exif=exif)


def test_no_warning_leaks_and_none_is_needed():
    content = with_corrupt_exif("JPEG")
    with pytest.warns(UserWarning):
        Image.open(io.BytesIO(content)).getexif()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_image(content).shape == (16, 16, 3)
    assert not caught


def test_threads_leave_the_filters_of_warnings_alone():
    contents = [with_corrupt_exif("JPEG"), encode(Image.fromarray(noise(40, 40, 3)), "TIFF")] * 50
    before, failures = list(warnings.filters), []

    def work() -> None:
        try:
            for content in contents:
                load_image(content)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and warnings.filters == before


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        load_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match=f"{tmp_path}: a folder, expected a regular file"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="null"):
        load_image("a\0b.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match=r"pipe\.png: a named pipe, expected"):
        load_image(tmp_path / "pipe.png")


def test_empty_files(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    with path.open("rb") as file:
        for source in (path, file):
            with pytest.raises(ImageError, match=rf"{path}: empty"):
                load_image(source)
    with pytest.raises(ImageError, match="the bytes: empty"):
        load_image(b"")
    with pytest.raises(ImageError, match="the PIL image: has no pixels: 0 x 5"):
        load_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    "content",
    [
        b"this is no image",
        b"\0",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) run\n",  # For this Pillow runs a program.
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
    ],
)
def test_what_is_no_photo_is_named(tmp_path, content):
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"{path}: no image, or none of the formats JPEG, PNG, "):
        load_image(path)


def test_a_pillow_without_avif(monkeypatch):
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    assert load_image(CAT).shape == (300, 451, 3)
    with pytest.raises(ImageError, match="the bytes: no image"):
        load_image(b"this is no image")


def test_a_closed_image_is_refused():
    image = Image.open(CAT)
    image.close()
    with pytest.raises(ImageError, match=r"cat\.png: damaged, or not supported"):
        load_image(image)


@pytest.mark.parametrize("format", ALL_FORMATS)
def test_truncated_files_are_refused_or_complete(format, tmp_path):
    content = encode(Image.fromarray(smooth(24, 20)), format, **ALL_FORMATS[format])
    complete = load_image(content)
    path = tmp_path / "cut"
    refused = 0
    cuts = sorted({*range(1, len(content), max(1, len(content) // 60)), *range(len(content) - 12, len(content))})
    for cut in cuts:
        path.write_bytes(content[:cut])
        try:
            assert_pixels(load_image(path), complete)
        except ImageError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > len(cuts) * 0.75


@pytest.mark.parametrize("format", ALL_FORMATS)
def test_damaged_files_are_read_or_refused(format, budget):
    content = encode(Image.fromarray(smooth(24, 20)), format, **ALL_FORMATS[format])
    source = random.Random(format)
    for _ in range(budget(200, 20_000)):
        damaged = bytearray(content)
        for _ in range(source.choice((1, 1, 2, 8))):
            damaged[source.randrange(len(damaged)) if source.random() < 0.5 else source.randrange(64)] = source.choice(
                (0, 1, 127, 128, 255, source.randrange(256))
            )
        try:
            pixels = load_image(bytes(damaged), max_pixels=100_000)
        except ImageError as error:
            assert str(error).startswith("the bytes: ")
        else:
            assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


def test_running_out_of_memory_is_not_called_damage(monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(_photo, "_to_rgb", fail)
    with pytest.raises(MemoryError):
        load_image(CAT)


@pytest.mark.parametrize("settings", [{}, {"lossless": True}, {"exif": b"Exif"}])
def test_sizes_in_headers_of_webp_are_those_of_the_pixels(settings):
    file = io.BytesIO()
    Image.fromarray(noise(300, 1000, 3)).save(file, "WEBP", **settings)
    assert _photo._webp_pixels(file) == 300 * 1000
    assert _photo._webp_pixels(io.BytesIO(b"RIFF")) == 0

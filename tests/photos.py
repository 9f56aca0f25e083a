"""Photos for the tests: random and smooth pixels, encoded in every format that is read."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# Encoders that lose nothing, so that what is read can be compared with what was written.
LOSSLESS = {
    "PNG": {},
    "BMP": {},
    "PPM": {},
    "GIF": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
    "JPEG2000": {},
}
LOSSY = {"JPEG": {"quality": 95, "subsampling": 0}, "AVIF": {"quality": 95}}
Image.init()
if "AVIF" not in Image.SAVE:  # Pillow before 11.3
    del LOSSY["AVIF"]
ALL_FORMATS = {**LOSSLESS, **LOSSY}


def encode(image: Image.Image, format: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """An image that lossy formats keep nearly as it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) * 255 // (height + width)], 2).astype(np.uint8)


def assert_pixels(pixels: np.ndarray, expected: np.ndarray, tolerance: int = 0) -> None:
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, axis=2)

"""Decodes photos by Pillow. Images of all modes become upright RGB, and all failures an ImageError.

Pillow is imported when first used. Its warnings are hidden, its settings stay. _load.py supplies the bytes,
preprocess.py uses the pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import numpy as np

from fastcnn._forks import Guard
from fastcnn.errors import ImageError
from fastcnn.io._memory import ask_memory

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SUFFIXES", "Facts", "decode", "examine", "import_pillow"]

# Formats of photos only: Pillow's others include EPS, which runs a program to decode. AVIF is last, as older versions
# of Pillow do not know it: see _open.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm"]
    + [".webp", ".tif", ".tiff", ".jp2", ".j2k", ".avif"]
)
# EXIF 2.32, 4.6.4 A: the member of PIL.Image.Transpose that turns the stored pixels upright.
_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ON_THEIR_SIDE = (5, 6, 7, 8)

# The filters of warnings as they are while `_quiet_pillow` hides some: threads must not change them at the same time.
_hidden: warnings.catch_warnings[None] | None = None


def _show_again() -> None:
    """In a forked child, restore the filters that a thread of the parent had changed."""
    if _hidden is not None:
        with suppress(RuntimeError):  # the thread had not changed them yet
            _hidden.__exit__(None, None, None)


_filters = Guard(_show_again)

# Bytes of Pillow's libraries. Without the memory to load them, Pillow lacks WebP and AVIF until the process ends.
_LIBRARIES = 32 << 20
_loaded = False
# The most bytes that decoders take for a pixel, and beside the pixels.
_PIXEL_BYTES, _SPARE_BYTES = 32, 8 << 20


def import_pillow() -> ModuleType:
    """Return the module PIL.Image, with all formats. If Pillow is missing, the error names the extra to install."""
    global _loaded
    if not _loaded:
        ask_memory(_LIBRARIES)
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('reading photos needs Pillow: pip install "fastcnn[images]"', name="PIL") from error
    if not _loaded:
        with _quiet_pillow():
            Image.init()
        _loaded = True
    return Image


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Hide Pillow's warnings. Only one thread at a time is within the block: decoding is best done outside."""
    global _hidden
    with _filters.lock:
        _hidden = warnings.catch_warnings()
        with _hidden:
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield


def decode(
    source: BinaryIO | Image.Image, name: str, max_pixels: int, at_least: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the pixels of a file, or of an image that may not be decoded yet. `name` is for messages.

    JPEG files are decoded at a half, a quarter or an eighth of their size where that covers `at_least`, a height and a
    width: most of the work is then never done.
    """
    import_pillow()
    with _errors_named(source, name, max_pixels) as size:
        image = _opened(source, name, max_pixels, size)
        if at_least is not None and image is not source and image.format == "JPEG":
            height, width = at_least[::-1] if _orientation(image) in _ON_THEIR_SIDE else at_least
            image.draft(None, (width, height))
        image.load()
        return _upright(image, name)[0]


class Facts(NamedTuple):
    """The properties of a photo in its file, and a thumbnail."""

    width: int
    height: int
    mode: str
    orientation: int
    thumbnail: np.ndarray  # (16, 16, 3) uint8, upright


def examine(source: BinaryIO, name: str, max_pixels: int) -> Facts:
    """Decode a photo as small as its format allows. It refuses whatever `decode` refuses."""
    pillow = import_pillow()
    with _errors_named(source, name, max_pixels) as size:
        image = _opened(source, name, max_pixels, size)
        mode, (width, height) = image.mode, image.size
        image.draft("RGB", (64, 64))  # only JPEG decodes to a smaller size; all of its data are still read
        image.load()
        pixels, orientation = _upright(image, name)
        thumbnail = pillow.fromarray(pixels).resize((16, 16), pillow.Resampling.BOX)
        return Facts(width, height, mode, orientation, np.asarray(thumbnail))


@contextmanager
def _errors_named(source: BinaryIO | Image.Image, name: str, max_pixels: int) -> Iterator[list[int]]:
    """Turn all exceptions of Pillow's into an ImageError. The caller puts the image's size into the list."""
    size: list[int] = []
    try:
        yield size
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        message = f"{name}: damaged, or not supported: {error or type(error).__name__}"
        declared = prod(size) if size else _webp_pixels(source)
        raise _image_error(message, min(declared, max_pixels)) from error


def _image_error(message: str, pixels: int) -> ImageError:
    """Return an ImageError of a damaged file. Raise MemoryError where memory is short, which decoders call damage."""
    ask_memory(_SPARE_BYTES + _PIXEL_BYTES * pixels)
    return ImageError(message)


def _opened(source: BinaryIO | Image.Image, name: str, max_pixels: int, size: list[int]) -> Image.Image:
    with _quiet_pillow():
        image = source if isinstance(source, import_pillow().Image) else _open(cast(BinaryIO, source), name)
        size[:] = image.size
        _check_size(image.size, name, max_pixels)
        if image.format == "TIFF":  # decoding reads its tags, and warns of them
            image.load()
    return cast("Image.Image", image)


def _upright(image: Image.Image, name: str) -> tuple[np.ndarray, int]:
    """Return the upright pixels, and the EXIF orientation that they had."""
    pillow = import_pillow()
    orientation = _orientation(image)
    pixels = _to_rgb(image, name)
    if orientation not in _ORIENTATIONS:
        return pixels, 1
    upright = pillow.Transpose[_ORIENTATIONS[orientation]]
    return np.array(pillow.fromarray(pixels).transpose(upright)), orientation


def _webp_pixels(file: BinaryIO | Image.Image) -> int:
    """Return the number of pixels in the header of a WebP file, or 0 for other files.

    WebP's decoder alone allocates all pixels when it opens a file. If that fails, Pillow does not know the size.
    """
    if isinstance(file, import_pillow().Image):
        return 0
    binary = cast(BinaryIO, file)
    binary.seek(0)
    start = binary.read(30)
    if start[:4] != b"RIFF" or start[8:12] != b"WEBP":
        return 0

    def number(begin: int, end: int) -> int:
        return int.from_bytes(start[begin:end], "little")

    if start[12:16] == b"VP8X":
        return (number(24, 27) + 1) * (number(27, 30) + 1)
    if start[12:16] == b"VP8L":
        return ((number(21, 25) & 0x3FFF) + 1) * ((number(21, 25) >> 14 & 0x3FFF) + 1)
    return (number(26, 28) & 0x3FFF) * (number(28, 30) & 0x3FFF)


def _open(file: BinaryIO, name: str) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file, formats=_FORMATS)
    except (UnidentifiedImageError, KeyError) as error:  # KeyError: a Pillow that does not know AVIF
        raise _image_error(f"{name}: no image, or none of the formats {', '.join(_FORMATS)}", 0) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too large: {error}") from error


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(f"{name}: too large: {width} x {height} pixels, more than max_pixels={max_pixels}")
    if width * height == 0:
        raise ImageError(f"{name}: has no pixels: {width} x {height}")


def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation of the decoded pixels. Pillow turns TIFF upright while it decodes."""
    with _quiet_pillow():
        return None if image.format == "TIFF" else image.getexif().get(_ORIENTATION_TAG)


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """Return the pixels of a decoded image, (H, W, 3) uint8."""
    is_16_bit = image.mode.startswith("I;16")
    # In mode I, PNG of older Pillow versions and PPM hold 16 bits in 32; other formats can use all 32.
    if is_16_bit or (image.mode == "I" and image.format in ("PNG", "PPM")):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageError(f"{name}: pixels of 32 bits (mode {image.mode!r}), expected 8 or 16 bits")
    if "transparency" in image.info:  # the conversion would fail to keep it
        image = image.copy()
        del image.info["transparency"]
    return np.array(image.convert("RGB"))

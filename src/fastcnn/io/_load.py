"""Reads photos into pixels, from files, bytes, images and arrays. _photo.py decodes them, _find.py finds files."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from fastcnn._arguments import as_int, as_pair
from fastcnn.errors import ImageError
from fastcnn.io._memory import memory_errors
from fastcnn.io._photo import Facts, decode, examine
from fastcnn.io._regular import NotRegularFileError, open_regular

if TYPE_CHECKING:
    from PIL import Image

    ImageSource: TypeAlias = (
        str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | np.ndarray
    )

MAX_PIXELS = 178_956_970  # Pillow's own, before it warns

__all__ = ["MAX_PIXELS", "ImageSource", "examine_file", "load_image"]


@memory_errors()
def load_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None
) -> np.ndarray:
    """Read a photo, upright, as red, green and blue.

    Parameters
    ----------
    source : str, path-like, bytes, binary file object, PIL.Image.Image or ndarray
        A file, or its content. Formats are AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF and WebP. Of several
        frames, the first is read. A file object is read from its position to its end. Pixels are of dtype uint8 and
        shape (H, W) for grey, (H, W, 1), (H, W, 3) or (H, W, 4).
    max_pixels : int
        The most pixels that a photo may have. Its size is checked before it is decoded. Pillow's own limit, twice
        ``PIL.Image.MAX_IMAGE_PIXELS``, also applies. Neither applies to ndarrays.
    at_least : (int, int), optional
        Height and width that are enough. JPEG files are decoded at the smallest of a half, a quarter or an eighth of
        their size that covers them. A photo of 12 megapixels then takes a tenth of the time. Other formats, and images
        that are decoded already, come as they are.

    Returns
    -------
    ndarray (H, W, 3) uint8
        New and C-contiguous. Transparency is dropped. Grey becomes three equal channels. Of 16 bits the upper 8 are
        kept. A photo whose EXIF data have an orientation is turned upright.

    Raises
    ------
    ImageError
        If the photo is damaged, truncated, too large or no photo; the message names the file and the cause.
    OSError
        If the file cannot be read, as FileNotFoundError.
    TypeError, ValueError
        If `source` is of another type, or an ndarray of another dtype or shape.
    ImportError
        If Pillow is not installed and `source` is not an ndarray.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 3), 200).save(file, "PNG")
    >>> pixels = load_image(file.getvalue())
    >>> pixels.shape, pixels[0, 0].tolist()
    ((3, 4, 3), [200, 200, 200])
    """
    max_pixels = as_int(max_pixels, "load_image: max_pixels", 1)
    if at_least is not None:
        at_least = as_pair(at_least, "load_image: at_least")
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, os.PathLike)):
        name = os.fsdecode(source)
        with _open(name) as file:
            return decode(file, name, max_pixels, at_least)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode(_as_file(source, "the bytes"), "the bytes", max_pixels, at_least)
    if hasattr(source, "read"):
        name = _name(source, "name", "the file object")
        return decode(_as_file(source.read(), name), name, max_pixels, at_least)
    pillow = sys.modules.get("PIL.Image")
    if pillow is None or not isinstance(source, pillow.Image):
        raise TypeError(
            f"load_image: source is of type {type(source).__name__}, expected a path, bytes, a binary file "
            "object, a PIL image or an ndarray"
        )
    return decode(source, _name(source, "filename", "the PIL image"), max_pixels)


def examine_file(path: str | os.PathLike[str], *, max_pixels: int = 178_956_970) -> Facts:
    """Return the size, mode and orientation of a photo, and a thumbnail. Its pixels are not kept.

    Raises
    ------
    ImageError, OSError
        Where `load_image` would.
    """
    name = os.fsdecode(path)
    with _open(name) as file:
        return examine(file, name, max_pixels)


def _name(source: Any, attribute: str, default: str) -> str:
    """Return the name of the source in messages: its own, if that is a string."""
    name = getattr(source, attribute, None)
    return name if isinstance(name, str) and name else default


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        raise TypeError(f"load_image: source.dtype={array.dtype}, expected uint8")
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise ValueError(
            f"load_image: source.shape={array.shape}, expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            "and at least one pixel"
        )
    height, width, _ = pixels.shape
    return np.array(np.broadcast_to(pixels[..., :3], (height, width, 3)), order="C")


def _open(name: str) -> BinaryIO:
    """Open a regular file that is not empty."""
    try:
        file = open_regular(name)
    except NotRegularFileError as error:
        raise ImageError(f"{name}: {error.strerror}") from error
    except ValueError as error:
        raise ImageError(str(error)) from error
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise ImageError(f"{name}: empty")
    return file


def _as_file(content: Any, name: str) -> io.BytesIO:
    if not isinstance(content, (bytes, bytearray, memoryview)):
        kind = type(content).__name__
        raise TypeError(f"load_image: reading {name} gave {kind}, expected bytes (mode 'rb')")
    if not len(content):
        raise ImageError(f"{name}: empty")
    return io.BytesIO(content)

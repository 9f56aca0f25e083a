"""Small copies of photos, kept in the project's state; a copy is made when it is first looked at."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np

from fastcnn._web import Refused
from fastcnn.errors import ImageError
from fastcnn.io._photo import import_pillow
from fastcnn.io.image import load_image

__all__ = ["as_jpeg", "as_png", "thumbnail"]

SIDE = 256  # pixels of the longer side: a tile on a screen with two pixels for each of the page's


def thumbnail(path: Path, key: str, folder: Path) -> bytes:
    """Return a small JPEG of a photo.

    Parameters
    ----------
    path : Path
    key : str
        Of this content: a changed photo has another one.
    folder : Path
        Where copies are kept.

    Raises
    ------
    Refused
        With status 415 if the photo cannot be read.
    """
    kept = folder / f"{key}.jpg"
    with contextlib.suppress(OSError):
        content = kept.read_bytes()
        if content:
            return content
    try:
        pixels = load_image(path, at_least=(SIDE, SIDE))
    except (ImageError, OSError) as error:
        raise Refused(415, f"photo: {error}") from error
    content = as_jpeg(pixels, SIDE)
    temporary = folder / f"{key}-{os.urandom(4).hex()}.tmp"
    with contextlib.suppress(OSError):  # on a full disk they are made anew each time
        temporary.write_bytes(content)
        os.replace(temporary, kept)
    return content


def as_jpeg(pixels: np.ndarray, side: int | None = None) -> bytes:
    """Return pixels, (H, W, 3) uint8, as JPEG; with `side`, no larger than that."""
    image = import_pillow().fromarray(pixels)
    if side is not None:
        image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def as_png(pixels: np.ndarray) -> bytes:
    """Return pixels, (H, W), (H, W, 3) or, with opacity, (H, W, 4) uint8, as PNG."""
    file = io.BytesIO()
    import_pillow().fromarray(pixels).save(file, "PNG")
    return file.getvalue()

"""Bytes that a client sends as a photo: within the limits, and a photo indeed. io/ decodes them."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from fastcnn._web.policy import Limits, Refused
from fastcnn.errors import ImageError

__all__ = ["Upload", "as_upload"]

# How files of the formats that io/ reads begin, and the suffix they get, whatever name they come with.
_BEGINNINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"\0\0\0\x0cjP  ", ".jp2"),
    (b"\xff\x4f\xff\x51", ".j2k"),
    *((b"P%d" % kind, ".ppm") for kind in range(1, 7)),
)


class Upload(NamedTuple):
    """A photo that came over the network.

    Attributes
    ----------
    content : bytes
    suffix : str
        Of its format.
    width, height : int
    """

    content: bytes
    suffix: str
    width: int
    height: int

    def pixels(self, limits: Limits) -> np.ndarray:
        """Return it as `load_image` does."""
        from fastcnn.io.image import load_image

        return load_image(self.content, max_pixels=limits.pixels)


def as_upload(content: bytes, limits: Limits, name: str = "the photo") -> Upload:
    """Check a photo; it is decoded as small as its format allows, so that one that is damaged is refused at once.

    Parameters
    ----------
    content : bytes
    limits : Limits
    name : str
        For the message.

    Raises
    ------
    Refused
        With status 413 if it has too many bytes or pixels, and 415 if it is no photo.
    """
    from fastcnn.io._photo import examine  # Pillow is loaded when the first photo comes

    if len(content) > limits.photo:
        raise Refused(413, f"{name}: {len(content)} bytes, expected {limits.photo} at most")
    suffix = _suffix_of(content)
    if not suffix:
        raise Refused(415, f"{name}: no photo, or of a format that is not known")
    try:
        facts = examine(io.BytesIO(content), name, limits.pixels)
    except ImageError as error:
        raise Refused(413 if "too large" in str(error) else 415, str(error)) from error
    return Upload(content, suffix, facts.width, facts.height)


def _suffix_of(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    if content[4:8] == b"ftyp" and content[8:12] in (b"avif", b"avis"):
        return ".avif"
    return next((suffix for beginning, suffix in _BEGINNINGS if content.startswith(beginning)), "")

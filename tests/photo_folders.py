"""Folders of small photos of two classes, told apart by where they are bright, for the tests of commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("left side", "right side")
BROKEN = b"\xff\xd8\xff\xe0 no more"


def make_photo(path: Path, is_left: bool, rng: np.random.Generator, size: tuple[int, int] = (40, 48)) -> None:
    """Write a photo, bright on one side."""
    pixels = rng.integers(0, 100, (*size, 3), dtype=np.uint8)
    half = pixels[:, : size[1] // 2] if is_left else pixels[:, size[1] // 2 :]
    half += 120
    Image.fromarray(pixels).save(path, quality=95)


def make_photos(folder: Path, count: int, classes: tuple[str | bytes, ...] = CLASSES) -> Path:
    """Write `count` photos of each class; no two are the same."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        place = Path(str(folder), name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
        place.mkdir(parents=True)
        for i in range(count):
            make_photo(place / f"{i}.jpg", number == 0, rng)
    return folder


def spoil(folder: Path, *photos: str) -> None:
    """Let photos be damaged."""
    for name in photos:
        (folder / name).write_bytes(BROKEN)


def train(folder: object, output: object, *arguments: str, epochs: int = 2) -> list[str]:
    """The arguments of a short `fastcnn train`; mirrored, left is right, so nothing is augmented."""
    sizes = ["--size", "16", "--epochs", str(epochs), "--batch-size", "8", "--no-augment"]
    return ["train", str(folder), "-o", str(output), *sizes, *arguments]

"""The photos of the examples: a cat, and pieces cut out of three pictures that come with scikit-image.

Each of the pictures is a class: a cat, a cup of coffee, an astronaut. A piece shows a part only, so that a network has
to learn what fur, wood and cloth look like. Run it to look at them: ``python examples/photos.py FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

CAT = Path(__file__).parent / "cat.png"
PICTURES = {"cat": "chelsea", "coffee": "coffee", "astronaut": "astronaut"}  # functions of skimage.data


def make_photos(folder: Path, count: int = 60, side: int = 96, seed: int = 0) -> Path:
    """Write ``folder/class/number.jpg``, `count` pieces of each picture, `side` pixels high and wide."""
    from skimage import data

    rng = np.random.default_rng(seed)
    for name, loader in PICTURES.items():
        picture = getattr(data, loader)()
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            top, left = (int(rng.integers(size - side)) for size in picture.shape[:2])
            piece = picture[top : top + side, left : left + side]
            Image.fromarray(piece).save(folder / name / f"{number:03}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python examples/photos.py FOLDER")
    else:
        print(f"photos of {len(PICTURES)} classes in {make_photos(Path(sys.argv[1]))}")

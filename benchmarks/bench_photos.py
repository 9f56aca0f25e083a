"""How much longer a training on photos of 12 megapixels takes than one on the same photos at 400 pixels.

    python benchmarks/bench_photos.py

Photos are made of scikit-image's sample pictures. Both trainings take turns; the median of the ratios is told.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import fastcnn as fc

PICTURES = {"cat": data.chelsea, "coffee": data.coffee, "rocket": data.rocket, "person": data.astronaut}
SIZES = {"12 megapixels": (4000, 3000), "400 pixels": (400, 300)}


def make_photos(folder: Path, count: int) -> None:
    """Write the same random parts of the pictures in both sizes, a class for each picture."""
    rng = np.random.default_rng(0)
    for name, picture in PICTURES.items():
        image = Image.fromarray(picture())
        for size in SIZES:
            (folder / size / name).mkdir(parents=True)
        for i in range(count // len(PICTURES)):
            left, top = rng.uniform(0, 0.4, 2) * image.size
            box = (left, top, left + 0.6 * image.width, top + 0.6 * image.height)
            for name_of_size, size in SIZES.items():
                part = image.resize(size, Image.Resampling.BICUBIC, box=box)
                part.save(folder / name_of_size / name / f"{i}.jpg", quality=92)


def seconds(folder: Path, epochs: int) -> float:
    """Train the network that `fastcnn train` takes by default, on a folder."""
    model = fc.zoo.small_cnn(len(PICTURES), 3, 64)
    start = time.perf_counter()
    model.fit(folder, epochs=epochs, validation=0.2, augment=fc.Augment(), schedule=fc.OneCycle(), progress=False)
    return time.perf_counter() - start


def main() -> None:
    """Print the seconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=80, help="how many (default: 80)")
    parser.add_argument("--epochs", type=int, default=20, help="of each training (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each size (default: 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), options.photos)
        rounds = [{size: seconds(Path(folder, size), options.epochs) for size in SIZES} for _ in range(options.rounds)]
    for size in SIZES:
        print(f"{size:15} {statistics.median(times[size] for times in rounds):6.2f} s")
    ratios = [times["12 megapixels"] / times["400 pixels"] for times in rounds]
    print(f"{'ratio':15} {statistics.median(ratios):6.2f}")


if __name__ == "__main__":
    main()

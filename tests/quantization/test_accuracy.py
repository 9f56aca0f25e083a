"""What networks lose in 8 bits: EfficientNet-Lite0 on real photos, and a MobileNetV2 that is trained here."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageEnhance
from skimage import data
from sklearn.datasets import load_digits

import fastcnn as fc
from fastcnn import zoo

# Photos of things that ImageNet has names for. Of textures and micrographs float32 itself is undecided.
PHOTOS = ("camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


def photos(count, seed):
    """Crops of photos, mirrored, turned, and of other brightness and colour."""
    rng = np.random.default_rng(seed)
    images = [Image.open(os.path.join(data.data_dir, name)).convert("RGB") for name in PHOTOS]
    for number in range(count):
        image = images[number % len(images)]
        width, height = (int(side * np.sqrt(rng.uniform(0.6, 1))) for side in image.size)
        left, top = rng.integers(0, image.size[0] - width + 1), rng.integers(0, image.size[1] - height + 1)
        image = image.crop((left, top, left + width, top + height))
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = image.rotate(rng.uniform(-10, 10))
        for change in (ImageEnhance.Brightness, ImageEnhance.Color):
            image = change(image).enhance(rng.uniform(0.8, 1.2))
        yield image


def test_efficientnet_lite0_names_photos_as_before(budget):
    model = fc.load_pretrained("efficientnet_lite0")
    small = model.quantize([*photos(budget(6, 96), 1)], method="percentile", progress=False)
    x = np.concatenate([model.preprocess(photo) for photo in photos(budget(6, 300), 2)])
    assert (small.predict(x) == model.predict(x)).mean() >= budget(0.8, 0.97)
    for name in ("chelsea.png", "coffee.png"):
        photo = os.path.join(data.data_dir, name)
        assert small.classify(photo)[0].label == model.classify(photo)[0].label


def test_a_mobilenet_that_is_trained_here_loses_at_most_half_a_point(budget):
    """On digits of 32 x 32 pixels; the push takes few of them, and looks at the agreement alone."""
    digits = load_digits()
    x = digits.images.astype(np.float32).repeat(4, 1).repeat(4, 2)[:, None].repeat(3, 1) / 8 - 1
    count, epochs = budget(32, 1200), budget(1, 12)
    with fc.layers.seeded(0):
        model = zoo.mobilenet_v2(num_classes=10)
    model.fit(x[:count], digits.target[:count], epochs=epochs, optimizer=fc.Adam(0.002), progress=False)
    test = x[1200:], digits.target[1200:]
    validation = tuple(part[: budget(32, None)] for part in test)
    report = model.quantize(x[:count], samples=budget(16, 256), validation=validation, progress=False).quantization
    assert report.agreement >= budget(0.6, 0.97)
    if epochs > 1:
        assert report.float_accuracy > 0.9 and report.drop <= 0.5

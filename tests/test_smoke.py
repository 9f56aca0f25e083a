"""Does anything work at all? A few seconds, before every commit: import, kernels, a prediction, a training step."""

from __future__ import annotations

import numpy as np

import fastcnn as fc
from fastcnn import functional as F
from fastcnn import reference


def small_network():
    return fc.Sequential(
        fc.Conv2d(1, 20, 3, padding=1),
        fc.BatchNorm2d(20),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Flatten(),
        fc.Linear(20 * 16, 2),
    )


def test_convolution_is_exact_on_integers(isa):
    rng = np.random.default_rng(0)
    x, weight = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((2, 19, 13, 11), (21, 19, 3, 3)))
    expected = reference.conv2d(x, weight, pads=(1, 1, 1, 1))
    np.testing.assert_array_equal(F.conv2d(x, weight, padding=1, algorithm="direct"), expected)


def test_a_network_learns_and_predicts(tmp_path):
    x = np.random.default_rng(0).random((32, 1, 8, 8)).astype(np.float32)
    y = np.arange(32) % 2
    x[y == 1, :, :4] += 1
    model = small_network()
    history = model.fit(x, y, epochs=3, seed=0)
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "a.safetensors").predict_proba(x), model.predict_proba(x))

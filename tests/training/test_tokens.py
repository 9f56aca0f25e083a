"""Training of layers of tokens: as images they learn what they learn as rows, bit for bit on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS

import fastcnn as fc
import fastcnn.functional as F
from fastcnn.layers import Layer, Parameter
from fastcnn.training import step


class Block(Layer):
    """A depthwise convolution, then layers over the last axis of (N, H, W, C), as ConvNeXt has them."""

    def __init__(self, channels, dropout, rng):
        self.dw = fc.Conv2d(channels, channels, 3, padding=1, groups=channels, rng=rng)
        self.norm, self.drop = fc.LayerNorm(channels), fc.Dropout(dropout)
        self.fc1, self.fc2 = fc.Linear(channels, 2 * channels, rng=rng), fc.Linear(2 * channels, channels, rng=rng)
        self.gamma = Parameter(np.full(channels, 0.5, np.float32))
        self.path, self.act = fc.DropPath(dropout), fc.GELU()

    def forward(self, x):
        y = self.norm(F.permute(self.dw(x), (0, 2, 3, 1)))
        y = self.drop(self.fc2(self.act(self.fc1(y)))) * self.gamma
        return x + self.path(F.permute(y, (0, 3, 1, 2)))


def network(dropout=0.0):
    rng = np.random.default_rng(0)
    blocks = [Block(12, dropout, rng) for _ in range(2)]
    return fc.Sequential(
        fc.Conv2d(3, 12, 2, stride=2, rng=rng), *blocks, fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(12, 3, rng=rng)
    )


def learnt(model, steps=3):
    """The losses of some steps, and the parameters behind them."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((4, 3, 12, 8)).astype(np.float32), np.array([0, 1, 2, 1])
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    losses = [trainer.step(x, y) for _ in range(steps)]
    return losses, {name: array.copy() for name, array in model.state_dict().items()}


def test_images_learn_what_rows_learn(isa, monkeypatch):
    losses, arrays = learnt(network())
    monkeypatch.setattr(step, "channels_first_for_training", lambda graph, sizes, trained: graph)
    others, wanted = learnt(network())
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for name, array in wanted.items():
        np.testing.assert_allclose(arrays[name], array, rtol=0, atol=2e-5 * max(1.0, np.abs(array).max()), err_msg=name)


def test_every_parameter_learns():
    model = network()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    _, after = learnt(model, 1)
    assert [name for name, array in before.items() if (array == after[name]).all()] == []


def test_the_same_bits_for_any_number_of_threads():
    found = []
    for threads in THREADS:
        with fc.num_threads(threads):
            found.append(learnt(network())[1])
    for name, array in found[0].items():
        assert all((other[name] == array).all() for other in found[1:]), name


@pytest.mark.parametrize("layer", ["drop", "path"])
def test_dropout_is_at_work(layer):
    plain, dropped = learnt(network(), 1)[0], network(0.5)
    for block in (dropped[1], dropped[2]):
        setattr(block, "path" if layer == "drop" else "drop", fc.Dropout(0.0))
    assert learnt(dropped, 1)[0] != plain

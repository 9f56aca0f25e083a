"""Training of networks with normalisation by their own statistics: one step against differences of the loss."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS

import fastcnn as fc
from fastcnn import reference


def network() -> fc.Model:
    """All layers that normalise images or rows by themselves, with weights of one axis and of several."""
    model = fc.Sequential(
        fc.Conv2d(3, 6, 3, padding=1, rng=0),
        fc.GroupNorm(2, 6),
        fc.GELU(),
        fc.InstanceNorm2d(6, affine=True),
        fc.GELU("tanh"),
        fc.LayerNorm((6, 4, 5)),
        fc.Flatten(),
        fc.RMSNorm(120),
        fc.Linear(120, 9, rng=1),
        fc.LayerNorm(9),
        fc.Linear(9, 3, rng=2),
    )
    rng = np.random.default_rng(3)
    for layer in model:
        if "Norm" in type(layer).__name__:
            layer.weight = rng.uniform(0.5, 1.5, layer.weight.shape)
            if hasattr(layer, "bias"):
                layer.bias = rng.uniform(-0.5, 0.5, layer.bias.shape)
    return model


def loss(model, x, target) -> float:
    return float(reference.cross_entropy(model(x.astype(np.float64)), target))


@pytest.mark.parametrize("threads", THREADS)
def test_a_step_follows_the_gradient(threads, isa, poisoned):
    rng = np.random.default_rng(4)
    x, labels = rng.standard_normal((5, 3, 4, 5)).astype(np.float32), rng.integers(0, 3, 5)
    target = np.eye(3)[labels] / len(labels)
    model = network()
    before = {name: np.array(value) for name, value in model.state_dict().items()}
    with fc.num_threads(threads):
        trainer = fc.Trainer(model, fc.SGD(1.0))
        told = trainer.step(x, labels)
    after = model.state_dict()
    model.load_state_dict(before)
    assert abs(told - loss(model, x, target)) < 1e-5
    for name, value in before.items():
        for at in [tuple(int(rng.integers(size)) for size in value.shape) for _ in range(3)]:
            ends = []
            for step in (1e-2, -1e-2):
                moved = {**before, name: np.array(value)}
                moved[name][at] += step
                model.load_state_dict(moved)
                ends.append(loss(model, x, target))
            expected = (ends[0] - ends[1]) / 2e-2
            assert value[at] - after[name][at] == pytest.approx(expected, rel=5e-3, abs=2e-4), (name, at)

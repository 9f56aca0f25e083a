"""What the tests of distributed training train: a small network with everything that depends on a batch's cut."""

from __future__ import annotations

import numpy as np

import fastcnn as fc

RNG = np.random.default_rng(0)
X = RNG.standard_normal((52, 3, 12, 12)).astype(np.float32)
Y = RNG.integers(0, 4, 52)
SETTINGS = {
    "batch_size": 13,
    "shards": 7,
    "progress": False,
    "optimizer": fc.AdamW(0.01),
    "augment": fc.Augment(mixup=0.2),
    "clip_norm": 1.0,
    "accumulate": 2,
    "ema": 0.9,
    "validation": 0.2,
}


def network():
    """Convolutions, batch normalisation and dropout."""
    return fc.Sequential(
        fc.Conv2d(3, 8, 3, padding="same", rng=0),
        fc.BatchNorm2d(8),
        fc.ReLU(),
        fc.Conv2d(8, 20, 3, rng=1),
        fc.BatchNorm2d(20),
        fc.ReLU(),
        fc.GlobalAvgPool2d(),
        fc.Flatten(),
        fc.Dropout(0.3),
        fc.Linear(20, 4, rng=2),
    )


def trained(epochs, **settings):
    """The network's state after some epochs, and the history."""
    model = network()
    history = model.fit(X, Y, epochs, **{**SETTINGS, **settings})
    return model.state_dict(), history


def same(one, other):
    """Whether two trainings have the same bits."""
    (state, history), (other_state, other_history) = one, other
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    return all(np.array_equal(state[name], other_state[name]) for name in state) and all(
        history[name] == other_history[name] for name in names
    )

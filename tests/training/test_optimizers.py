"""Optimizers against their formulas in float64 and against PyTorch's, losses against their formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
from training import optimizers_of_pytorch

import fastcnn as fc
from fastcnn import reference

RATE = 0.05


def sgd(p, g, s, t, momentum=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    s["m"] = momentum * s.get("m", 0) + g
    return p - RATE * (g + momentum * s["m"] if nesterov else s["m"])


def adam(p, g, s, t, weight_decay=0.0, decoupled=False):
    if decoupled:
        p = p - RATE * weight_decay * p
    else:
        g = g + weight_decay * p
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    return p - RATE * (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)


def rmsprop(p, g, s, t, momentum=0.0, weight_decay=0.0, centered=False):
    g = g + weight_decay * p
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * g * g
    s["c"] = 0.99 * s.get("c", 0) + 0.01 * g * centered
    s["m"] = momentum * s.get("m", 0) + g / (np.sqrt(s["v"] - s["c"] ** 2) + 1e-8)
    return p - RATE * s["m"]


def lion(p, g, s, t, betas=(0.9, 0.99), weight_decay=0.0):
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p - RATE * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)


def lamb(p, g, s, t, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    u = s["m"] / (1 - betas[0] ** t) / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps) + weight_decay * p
    lengths = np.linalg.norm(p), np.linalg.norm(u)
    return p - RATE * (lengths[0] / lengths[1] if all(lengths) and weight_decay else 1) * u


CASES = [
    (fc.SGD(RATE), sgd, {}),
    (fc.SGD(RATE, momentum=0.9, weight_decay=0.01), sgd, {"momentum": 0.9, "weight_decay": 0.01}),
    (fc.SGD(RATE, momentum=0.9, nesterov=True), sgd, {"momentum": 0.9, "nesterov": True}),
    (fc.Adam(RATE), adam, {}),
    (fc.Adam(RATE, weight_decay=0.1), adam, {"weight_decay": 0.1}),
    (fc.AdamW(RATE, weight_decay=0.1), adam, {"weight_decay": 0.1, "decoupled": True}),
    (fc.RMSprop(RATE), rmsprop, {}),
    (fc.Lion(RATE), lion, {}),
    (fc.Lion(RATE, betas=(0.8, 0.9), weight_decay=0.1), lion, {"betas": (0.8, 0.9), "weight_decay": 0.1}),
    (fc.LAMB(RATE), lamb, {}),
    (fc.LAMB(RATE, weight_decay=0.0), lamb, {"weight_decay": 0.0}),
    (fc.LAMB(RATE, (0.8, 0.95), 1e-4, 0.2), lamb, {"betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.2}),
    (fc.RMSprop(RATE, momentum=0.5, weight_decay=0.1), rmsprop, {"momentum": 0.5, "weight_decay": 0.1}),
    (fc.RMSprop(RATE, momentum=0.5, centered=True), rmsprop, {"momentum": 0.5, "centered": True}),
]


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize(("optimizer", "formula", "settings"), CASES, ids=[repr(case[0]) for case in CASES])
def test_ten_steps_follow_the_formula(isa, optimizer, formula, settings, clip_norm):
    model = fc.Sequential(fc.Linear(13, 11, rng=0))
    trainer = fc.Trainer(model, optimizer, "mse", clip_norm=clip_norm)
    rng = np.random.default_rng(0)
    parameters = {name: array.astype(np.float64) for name, array in model.named_parameters()}
    states = {name: {} for name in parameters}
    for step in range(1, 11):
        x, y = rng.standard_normal((6, 13)).astype(np.float32), rng.standard_normal((6, 11)).astype(np.float32)
        grad = reference.mean_squared_error_grad(reference.linear(x, *parameters.values()), y)
        grads = {"0.weight": reference.linear_grad_weight(x, grad), "0.bias": reference.linear_grad_bias(grad)}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        scale = 1.0 if clip_norm is None else min(1.0, clip_norm / (norm + 1e-6))
        for name in parameters:
            parameters[name] = formula(parameters[name], scale * grads[name], states[name], step, **settings)
        trainer.step(x, y)
    for name, array in model.named_parameters():
        np.testing.assert_allclose(array, parameters[name], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", optimizers_of_pytorch.OPTIMIZERS)
def test_ten_steps_are_those_of_pytorch(isa, name):
    kind, settings = optimizers_of_pytorch.OPTIMIZERS[name]
    weight, bias, batches = optimizers_of_pytorch.problem()
    model = fc.Sequential(fc.Linear(weight.shape[1], weight.shape[0]))
    model[0].weight, model[0].bias = weight, bias
    trainer = fc.Trainer(model, getattr(fc, kind)(optimizers_of_pytorch.RATE, **settings), "mse")
    for x, y in batches:
        trainer.step(x, y)
    expected = json.loads(optimizers_of_pytorch.NUMBERS.read_text())[name]
    np.testing.assert_allclose(model[0].weight, expected["weight"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(model[0].bias, expected["bias"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fc.SGD(-1.0),
        lambda: fc.SGD(float("nan")),
        lambda: fc.SGD(0.1, nesterov=True),
        lambda: fc.Adam(betas=(1.0, 0.9)),
        lambda: fc.RMSprop(alpha=2.0),
        lambda: fc.AdamW(weight_decay=-1),
        lambda: fc.CrossEntropy(label_smoothing=2),
        lambda: fc.CrossEntropy(class_weights=[-1, 1]),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def cross_entropy(scores, labels, weights, smoothing):
    logs = np.log(reference.softmax(scores))
    classes = scores.shape[1]
    chosen = weights[labels]
    picked = -(chosen * logs[np.arange(len(labels)), labels]).sum() / chosen.sum()
    spread = -(weights * logs).sum() / chosen.sum()
    return (1 - smoothing) * picked + smoothing / classes * spread


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_cross_entropy_with_weights_and_smoothing(smoothing, weights):
    model = fc.Sequential(fc.Linear(4, 3, rng=0))
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((5, 4)).astype(np.float32), rng.integers(0, 3, 5)
    scores = reference.linear(x, model[0].weight, model[0].bias)
    expected = cross_entropy(scores, labels, np.ones(3) if weights is None else np.array(weights), smoothing)
    loss = fc.Trainer(model, fc.SGD(), fc.CrossEntropy(smoothing, weights)).step(x, labels)
    assert abs(loss - expected) < 1e-6
    if weights is None:  # the labels as probabilities
        again = fc.Sequential(fc.Linear(4, 3, rng=0))
        assert abs(fc.Trainer(again, fc.SGD(), fc.CrossEntropy(smoothing)).step(x, np.eye(3)[labels]) - loss) < 1e-6


@pytest.mark.parametrize(("name", "define"), [("mse", "mean_squared_error"), ("binary_cross_entropy",) * 2])
def test_other_losses(name, define):
    model = fc.Sequential(fc.Linear(4, 3, rng=0))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 4)).astype(np.float32), rng.random((5, 3))
    scores = reference.linear(x, model[0].weight, model[0].bias)
    assert abs(fc.Trainer(model, fc.SGD(), name).step(x, y) - getattr(reference, define)(scores, y)) < 1e-6


def test_scores_beyond_all_bounds():
    """Stable where exp would overflow; NaN where the formula is."""
    model = fc.Sequential(fc.Linear(1, 2, bias=False))
    model[0].weight = [[1.0], [-1.0]]
    for value, expected in [(500.0, 1000.0), (-500.0, 0.0)]:
        assert fc.Trainer(model, fc.SGD(0.0)).step([[value]], [1]) == expected
    assert np.isnan(fc.Trainer(model, fc.SGD(0.0)).step([[np.nan]], [1]))

"""Losses as plain functions: gradients of NumPy's functions against difference quotients."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.training.losses import BinaryCrossEntropy, CrossEntropy, FunctionLoss
from fastcnn.training.values import Value

X = np.array([[0.3, -1.2, 0.8], [1.5, 0.4, -0.7]])
OTHER = np.array([[0.5, 1.5, -0.5]])
INDICES = np.array([[2], [0]])
FUNCTIONS = {
    "arithmetic": lambda x: (3 * x - x / (x + 5) + (2 - x) ** 3 + x * OTHER).sum(),
    "power of itself": lambda x: ((x + 3) ** (x + 2)).mean(),
    "elements": lambda x: (np.exp(x) + np.log(x + 4) + np.sqrt(x + 4) + np.square(x) + np.abs(x) + np.tanh(x)).sum(),
    "log1p and expm1": lambda x: (np.log1p(np.exp(x)) * np.expm1(x)).sum(),
    "rows": lambda x: (x.mean(axis=1) * np.array([1, 2])).sum() + x.max(axis=0).sum() + np.min(x),
    "keepdims": lambda x: (x / np.sum(x + 4, axis=1, keepdims=True) - x.max(1, keepdims=True)).mean(),
    "indexing": lambda x: (x[np.arange(2), [2, 2]] * x[0, 1]).sum() + x[:, 1:].sum(),
    "along an axis": lambda x: np.take_along_axis(x.log_softmax(), INDICES, 1).sum() * 2.0,
    "softmax": lambda x: -((1 - x.softmax()) ** 2 * x.log_softmax()).sum(),
    "sigmoid": lambda x: (x.sigmoid() * OTHER).sum(),
    "where and bounds": lambda x: (np.where(x > 0.1, x * x, -x) + np.clip(x, -1, 1) + np.maximum(x, 0.35)).sum(),
    "matrices": lambda x: ((x @ OTHER.T) * (x.T @ x).sum() + np.transpose(x).reshape(6)[1]).sum(),
    "repeated rows": lambda x: (x[[0, 0, 1]] ** 2).sum(),
    "minimum of two": lambda x: np.minimum(x, x * x - 0.5).mean(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_the_difference_quotients(name):
    function, given = FUNCTIONS[name], Value(X)
    gradient = function(given).gradient_by(given)
    for index in np.ndindex(X.shape):
        change = np.zeros_like(X)
        change[index] = 1e-6
        quotient = (function(Value(X + change)).data - function(Value(X - change)).data) / 2e-6
        assert gradient[index] == pytest.approx(quotient, rel=1e-6, abs=1e-8), index


def test_what_is_not_known_is_refused_by_name():
    for function in (np.sin, np.argsort, np.asarray, np.add.accumulate):
        with pytest.raises(TypeError, match="loss: "):
            function(Value(X))
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected a single number"):
        Value(X).gradient_by(Value(X))
    assert np.array_equal(Value(X).sum().gradient_by(Value(X)), np.zeros((2, 3)))  # of another value


def test_known_losses_written_as_functions():
    labels, yes = np.array([2, 0]), np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    scores, weights = X.astype(np.float32), [1.0, 3.0]

    def cross_entropy(given, y):
        return -given.log_softmax()[np.arange(len(y)), y]

    def binary(given, y):
        return (np.maximum(given, 0) - given * y + np.log1p(np.exp(-np.abs(given)))).mean(axis=1)

    for known, function, y in ((CrossEntropy(), cross_entropy, labels), (BinaryCrossEntropy(), binary, yes)):
        for w in (None, weights):
            value, gradient = FunctionLoss(function).value_and_gradient(scores, y, w)
            assert value == pytest.approx(known.value(scores, y, w), rel=1e-6)
            np.testing.assert_allclose(gradient, known_gradient(known, scores, y, w), rtol=1e-5, atol=1e-7)


def known_gradient(loss, scores, y, weights):
    if isinstance(loss, CrossEntropy):
        target = loss.target(y, scores.shape, weights)
        return np.exp(Value(scores).log_softmax().data) * target.sum(axis=1, keepdims=True) - target
    return loss.value_and_gradient(scores, y, weights)[1]


def test_weights_of_inputs_stand_for_repeated_ones():
    scores, y = X.astype(np.float32), np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    for loss in (BinaryCrossEntropy(), CrossEntropy(0.1, [1, 2, 3])):
        of = [2, 0] if isinstance(loss, CrossEntropy) else y
        repeated = loss.value(scores[[0, 1, 1]], np.array(of)[[0, 1, 1]])
        assert loss.value(scores, np.array(of), [1, 2]) == pytest.approx(repeated, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "weights", "error"),
    [
        (lambda s, y: 3.0, None, TypeError),
        (lambda s, y: s, None, ValueError),
        (lambda s, y: s.mean(), [1, 1], ValueError),
        (lambda s, y: (1.0, X), [1, 1], ValueError),
        (lambda s, y: (1.0, X[:1]), None, ValueError),
        (lambda s, y: s.mean(axis=1), [1, 1, 1], ValueError),
        (lambda s, y: s.mean(axis=1), [-1, 1], ValueError),
    ],
)
def test_functions_that_return_something_else_are_refused(function, weights, error):
    with pytest.raises(error, match="expected"):
        FunctionLoss(function).value_and_gradient(X, [0, 1], weights)

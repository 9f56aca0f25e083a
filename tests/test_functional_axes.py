"""Functions of axes against NumPy's, at once and within models; what models compute of their parameters."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import functional as F

X = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_as_numpy(dtype):
    x = X.astype(dtype)
    for shape in [(-1,), (6, 24), (0, -1), (2, 3, 2, 2, 6), (0, 0, 24)]:
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
        assert np.array_equal(F.reshape(x, shape), x.reshape(sizes))
    for dims in [(0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3), (-1, 0, 1, -2)]:
        assert np.array_equal(F.permute(x, dims), x.transpose(dims))
    for dim, start, length in [(0, 1, 1), (1, 0, 3), (2, 1, 2), (-1, 4, 2), (3, 0, 0)]:
        expected = np.take(x, range(start, start + length), dim)
        assert np.array_equal(F.narrow(x, dim, start, length), expected)
    out = np.empty((6, 4, 3, 2), dtype)
    assert F.permute(x, (3, 2, 1, 0), out=out) is out and np.array_equal(out, x.T)


class Turned(fc.Model):
    """Half of the channels, with the axes in another order, through a linear layer."""

    def __init__(self):
        self.fc = fc.Linear(8, 4, rng=0)

    def forward(self, x):
        x = F.reshape(F.permute(F.narrow(x, 1, 1, 2), (0, 3, 2, 1)), (-1, 6, 8))
        return F.flatten(self.fc(x))


def test_within_a_model(isa, poisoned):
    model = Turned()
    for count in (1, 2):
        x = X[:count]
        rows = x[:, 1:3].transpose(0, 3, 2, 1).reshape(count, 6, 8)
        expected = rows @ model.fc.weight.T + model.fc.bias
        np.testing.assert_allclose(model(x), expected.reshape(count, -1), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.reshape(X, (5, -1)), "reshape: shape=(5, -1), expected a shape of 144 elements"),
        (lambda: F.reshape(X, 3), "reshape: shape=3, expected a sequence of integers"),
        (lambda: F.reshape(X, (-2, 3)), "reshape: shape[0]=-2, expected"),
        (lambda: F.permute(X, (0, 1)), "permute: perm=(0, 1), expected an order of the 4 axes"),
        (lambda: F.permute(X, 1), "permute: dims=1, expected a sequence of axes"),
        (lambda: F.narrow(X, 1, 2, 2), "narrow: start=2, length=2, expected a part of 3 elements"),
        (lambda: F.narrow(X, 4, 0, 1), "narrow: axis=4, expected an axis of x"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value).startswith(message)


class Token(fc.Model):
    """A trained token before those of the input, and trained positions."""

    def __init__(self):
        self.token = fc.layers.Parameter(np.full((1, 1, 3), 0.5))
        self.places = fc.layers.Parameter(np.arange(9.0).reshape(1, 3, 3))
        self.fc = fc.Linear(3, 2, rng=0)

    def forward(self, x):
        shift = F.add(self.places, F.pad(self.token, (0, 0, 0, 2)))
        x = F.pad(x, (0, 0, 1, 0)) + shift
        return self.fc(F.flatten(F.narrow(x, 1, 0, 1)))


def test_parameters_learn_through_what_is_computed_of_them(isa):
    model, x = Token(), np.ones((5, 2, 3), np.float32)
    first = (model.token + model.places[:, :1])[0, 0].astype(np.float64)
    weight = model.fc.weight.astype(np.float64)
    scores = first @ weight.T + model.fc.bias
    np.testing.assert_allclose(model(x), np.tile(scores, (5, 1)), rtol=1e-5)
    gradient = scores @ weight  # of the mean of squares of two scores
    before = model.token.copy(), model.places.copy()
    fc.Trainer(model, fc.SGD(0.1), "mse").step(x, np.zeros((5, 2)))
    np.testing.assert_allclose(model.token, before[0] - 0.1 * gradient, rtol=1e-5)
    np.testing.assert_allclose(model.places[:, 0], before[1][:, 0] - 0.1 * gradient, rtol=1e-5)
    assert np.array_equal(model.places[:, 1:], before[1][:, 1:])


def test_positions_of_a_saved_model(tmp_path):
    model, x = Token(), np.ones((5, 2, 3), np.float32)
    model.input_shape = (2, 3)
    model.save(tmp_path / "token.safetensors")
    loaded = fc.load(tmp_path / "token.safetensors")
    assert np.array_equal(loaded(x), model(x)) and "token" in loaded.state_dict()
    fc.Trainer(loaded, fc.SGD(0.1), "mse").step(x, np.zeros((5, 2)))
    assert not np.array_equal(loaded.state_dict()["token"], model.token)

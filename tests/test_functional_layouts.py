"""Arrays of any layout and type give what their contiguous copies give, and are never changed."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import functional as F


def strided(x):
    """Every second element along the last axis of a larger array."""
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), 7, x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def misaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1],
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "misaligned": misaligned,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": read_only,
    "subclass": lambda x: x.view(np.matrix) if x.ndim == 2 else x,
    "list": lambda x: x.tolist() if x.dtype == np.float64 else x,
}
FUNCTIONS = {
    "conv2d": lambda x, w, v: F.conv2d(x, w, v, padding=1),
    "im2col": lambda x, w, v: F.conv2d(x, w, v, padding=1, algorithm="im2col"),
    "linear": lambda x, w, v: F.linear(np.reshape(x, (6, 30)), np.reshape(w, (6, 27))[:, :5].repeat(6, 1), v),
    "relu": lambda x, w, v: F.relu(x),
    "sigmoid": lambda x, w, v: F.sigmoid(x),
    "max_pool2d": lambda x, w, v: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x, w, v: F.avg_pool2d(x, 2),
    "global_avg_pool2d": lambda x, w, v: F.global_avg_pool2d(x),
    "batch_norm": lambda x, w, v: F.batch_norm(x, np.asarray(v)[:3], np.abs(np.asarray(v)[:3])),
    "softmax": lambda x, w, v: F.softmax(x, 1),
    "add": lambda x, w, v: F.add(x, np.asarray(v)[:3].reshape(3, 1, 1)),
    "mul": lambda x, w, v: F.mul(x, x),
    "concat": lambda x, w, v: F.concat([x, x]),
    "pad": lambda x, w, v: F.pad(x, (1, 2)),
    "flatten": lambda x, w, v: F.flatten(x),
    "dropout": lambda x, w, v: F.dropout(x),
    "reshape": lambda x, w, v: F.reshape(x, (-1, 5, 9)),
    "permute": lambda x, w, v: F.permute(x, (2, 0, -1, 1)),
    "narrow": lambda x, w, v: F.narrow(x, 1, 1, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_layout(name, budget):
    """Random layouts for each of three arguments."""
    function = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    kinds = list(LAYOUTS)
    for _ in range(budget(5_000, 50_000) // len(FUNCTIONS)):
        dtype = rng.choice([np.float32, np.float64])
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((2, 3, 5, 6), (6, 3, 3, 3), (6,))]
        chosen = [rng.choice(kinds) for _ in arrays]
        variants = [LAYOUTS[kind](array) for kind, array in zip(chosen, arrays, strict=True)]
        before = [np.array(variant) for variant in variants]
        expected = function(*[np.ascontiguousarray(array) for array in arrays])
        result = function(*variants)
        assert type(result) is np.ndarray and result.flags.c_contiguous
        assert result.dtype == expected.dtype, chosen
        assert np.array_equal(result, expected), chosen
        assert all(np.array_equal(a, b) for a, b in zip(before, variants, strict=True)), "an input was changed"


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        ("uint8", "float32"),
        ("int8", "float32"),
        ("int16", "float32"),
        ("bool", "float32"),
        ("float16", "float32"),
        ("int32", "float64"),
        ("int64", "float64"),
        ("float64", "float64"),
        (">f4", "float32"),
        (">i2", "float32"),
    ],
)
def test_types_are_promoted_as_by_numpy(dtype, result):
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(dtype)
    weight = np.ones((2, 3, 3, 3), np.float32)
    assert np.result_type(x.dtype, np.float32) == result
    y = F.conv2d(x, weight)
    assert y.dtype == result
    np.testing.assert_allclose(y, F.conv2d(x.astype(np.float64), weight), rtol=1e-6)


def test_python_numbers_take_the_type_of_the_array():
    x = np.ones(3, np.float32)
    assert F.add(x, 1.5).dtype == F.mul(2, x).dtype == np.float32
    assert F.add(x.astype(np.float64), 1).dtype == np.float64


def test_broadcast_inputs_with_stride_zero():
    x = np.broadcast_to(np.float32(2), (1, 4, 6, 6))
    assert np.array_equal(F.conv2d(x, np.ones((1, 4, 3, 3))), np.full((1, 1, 4, 4), 72.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_without_elements(dtype):
    x, w = np.zeros((0, 3, 5, 5), dtype), np.ones((4, 3, 3, 3), dtype)
    assert F.conv2d(x, w).shape == (0, 4, 3, 3)
    assert F.conv2d(np.zeros((2, 3, 5, 5), dtype), w[:0]).shape == (2, 0, 3, 3)
    no_channels = F.conv2d(np.zeros((1, 0, 5, 5), dtype), np.ones((4, 0, 3, 3), dtype), np.arange(4, dtype=dtype))
    assert np.array_equal(no_channels[0, :, 0, 0], [0, 1, 2, 3])  # an empty sum, and the bias
    assert np.array_equal(F.linear(np.zeros((2, 0), dtype), np.zeros((3, 0), dtype)), np.zeros((2, 3)))
    for function in (F.relu, F.tanh, F.softmax, F.dropout, lambda x: F.add(x, 1), lambda x: F.max_pool2d(x, 2)):
        assert function(x).size == 0
    assert F.concat([x, np.ones((0, 1, 5, 5), dtype)]).shape == (0, 4, 5, 5)
    assert F.flatten(x).shape == (0, 75)
    assert F.pad(x, (1, 1)).shape == (0, 3, 5, 7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_is_written_and_returned(dtype):
    x, w = np.ones((1, 2, 4, 4), dtype), np.ones((3, 2, 3, 3), dtype)
    out = np.full((1, 3, 2, 2), np.nan, dtype)
    assert F.conv2d(x, w, out=out) is out and np.array_equal(out, F.conv2d(x, w))
    same = np.full(x.shape, np.nan, dtype)
    for function in (
        F.relu,
        F.relu6,
        F.clip,
        F.leaky_relu,
        F.tanh,
        F.sigmoid,
        F.hardswish,
        F.silu,
        F.gelu,
        F.erf,
        F.softmax,
    ):
        assert function(x, out=same) is same and np.array_equal(same, function(x))


def test_linear_takes_any_leading_dimensions():
    x, w = np.random.default_rng(0).standard_normal((2, 3, 4)), np.ones((5, 4))
    np.testing.assert_allclose(F.linear(x, w), x @ w.T)
    np.testing.assert_allclose(F.linear(x[0, 0], w), x[0, 0] @ w.T)
    out = np.empty((2, 3, 5))
    assert F.linear(x, w, out=out) is out
    np.testing.assert_allclose(out, x @ w.T)

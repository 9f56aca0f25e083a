"""What all definitions share: any real array gives a new float64 array, and shapes that do not fit are refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_reference import ELEMENTWISE, WINDOW, apply

from fastcnn import reference

SMALL = np.arange(1, 17).reshape(1, 1, 4, 4)
CALLS = {
    "add": lambda x: reference.add(x, x),
    "avg_pool2d": lambda x: reference.avg_pool2d(x, *WINDOW),
    "batch_norm": lambda x: reference.batch_norm(x, [1], [4], [2], [1]),
    "concat": lambda x: reference.concat([x, x]),
    "conv2d": lambda x: reference.conv2d(x, SMALL[:, :, :2, :2], [1]),
    "flatten": reference.flatten,
    "global_avg_pool2d": reference.global_avg_pool2d,
    "linear": lambda x: reference.linear(x, SMALL[0, 0], SMALL[0, 0, 0]),
    "max_pool2d": lambda x: reference.max_pool2d(x, *WINDOW),
    "multiply": lambda x: reference.multiply(x, x),
    "pad": lambda x: reference.pad(x, (0,) * 8),
    "softmax": reference.softmax,
    **{name: lambda x, name=name: apply(name, x) for name in ELEMENTWISE},
}


OPERATIONS = [name for name in reference.__all__ if not name.endswith("_grad")]


def test_all_functions_are_covered():
    defined = {*vars(reference.forward), *vars(reference.activation), *vars(reference.normal)}
    assert sorted(CALLS) == sorted(name for name in OPERATIONS if name in defined)


@pytest.mark.parametrize("name", CALLS)
def test_any_real_array_gives_the_same_new_float64_array(name):
    expected = CALLS[name](SMALL.astype(np.float64))
    wide = np.zeros((1, 1, 8, 12))
    wide[:, :, ::2, ::-3] = SMALL
    types = [SMALL.astype(name) for name in ("float32", "int8", ">f8", "float64")]
    for x in (*types, np.asfortranarray(types[-1]), wide[:, :, ::2, ::-3]):
        before = x.copy()
        x.setflags(write=False)
        y = CALLS[name](x)
        assert type(y) is np.ndarray and y.dtype == np.float64
        assert y.dtype.isnative and not np.shares_memory(x, y)
        assert_array_equal(y, expected)
        assert_array_equal(x, before)


@pytest.mark.parametrize("name", CALLS)
def test_an_empty_batch_gives_an_empty_batch(name):
    assert CALLS[name](SMALL[:0]).shape == (0, *CALLS[name](SMALL).shape[1:])


REFUSED = [
    lambda: reference.conv2d(np.ones((1, 3, 4, 4)), np.ones((2, 1, 1, 1))),
    lambda: reference.conv2d(np.ones((1, 1, 4, 4)), np.ones((2, 3, 1, 1))),
    lambda: reference.conv2d(np.ones((1, 4, 4, 4)), np.ones((3, 2, 1, 1)), groups=2),
    lambda: reference.conv2d(np.ones((1, 3, 4, 4)), np.ones((2, 1, 1, 1)), groups=2),
    lambda: reference.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 5, 1))),
    lambda: reference.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), pads=(-1, 0, 0, 0)),
    lambda: reference.max_pool2d(np.ones((1, 1, 1, 1)), (3, 3), (2, 2), (0, 0, 0, 0), ceil_mode=True),
    lambda: reference.avg_pool2d(np.ones((1, 1, 4, 4)), (1, 5), (1, 1), (0, 0, 0, 0)),
    lambda: reference.linear(np.ones((1, 3)), np.ones((2, 1))),
    lambda: reference.add(np.ones(2), np.ones(3)),
    lambda: reference.multiply(np.ones(2), np.ones(3)),
    lambda: reference.concat([np.ones((1, 2)), np.ones((2, 2))]),
    lambda: reference.pad(np.ones((2, 2)), (1, 1)),
    lambda: reference.pad(np.ones(2), (0, -1)),
]


@pytest.mark.parametrize("call", REFUSED)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match="."):
        call()

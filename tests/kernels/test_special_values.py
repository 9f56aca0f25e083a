"""NaN, infinities, -0 and subnormal numbers at every lane of a vector and every remainder, through each operation."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn import reference

SPECIAL = np.float32([np.nan, np.inf, -np.inf, -0.0, 1e-40, -1e-40])
RNG = np.random.default_rng(5)
LONGEST = 33  # channels: two vectors of every instruction set and one more


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def norm(c):
    mean, var, weight, bias = weights(c), RNG.random(c, np.float32) + 0.5, weights(c), weights(c)
    return (
        lambda x: F.batch_norm(x, mean, var, weight, bias),
        lambda x: reference.batch_norm(x, mean, var, weight, bias),
    )


def dense(c):
    w = weights(5, c)
    return lambda x: F.linear(x[:, :, 0, 0], w), lambda x: reference.linear(x[:, :, 0, 0], w)


def conv(groups):
    def make(c):
        w = weights(c if groups else 3, 1 if groups else c, 3, 3)
        group = c if groups else 1
        return (
            lambda x: F.conv2d(x, w, padding=1, groups=group),
            lambda x: reference.conv2d(x, w, pads=(1, 1, 1, 1), groups=group),
        )

    return make


def pair(function, definition):
    return lambda c: (function, definition)


OPERATIONS = {
    "add": pair(lambda x: F.add(x, x), lambda x: reference.add(x, x)),
    "mul": pair(lambda x: F.mul(x, x), lambda x: reference.multiply(x, x)),
    "concat": pair(lambda x: F.concat([x, x]), lambda x: reference.concat([x, x])),
    "pad": pair(lambda x: F.pad(x, (1, 2, 0, 1)), lambda x: reference.pad(x, (0, 0, 0, 1, 0, 0, 1, 2))),
    "flatten": pair(F.flatten, reference.flatten),
    "max_pool2d": pair(lambda x: F.max_pool2d(x, 2, 1), lambda x: reference.max_pool2d(x, (2, 2), (1, 1), (0,) * 4)),
    "avg_pool2d": pair(lambda x: F.avg_pool2d(x, 2, 1), lambda x: reference.avg_pool2d(x, (2, 2), (1, 1), (0,) * 4)),
    "global_avg_pool2d": pair(F.global_avg_pool2d, reference.global_avg_pool2d),
    "softmax": pair(lambda x: F.softmax(x, 1), lambda x: reference.softmax(x, 1)),
    "local_response_norm": pair(
        lambda x: F.local_response_norm(x, 3), lambda x: reference.local_response_norm(x, 3, 1e-4, 0.75, 1.0)
    ),
    "batch_norm": norm,
    "linear": dense,
    "conv2d": conv(groups=False),
    "depthwise conv2d": conv(groups=True),
}


EXACT = {"concat", "pad", "flatten", "max_pool2d"}  # what moves values keeps signs and subnormal numbers


def images(c):
    """An image for each channel and each special value, which stands there."""
    x = RNG.standard_normal((c, len(SPECIAL), c, 3, 3)).astype(np.float32)
    for lane in range(c):
        x[lane, :, lane, 1, 1] = x[lane, :, lane, 0, 0] = SPECIAL
    return x.reshape(-1, c, 3, 3)


@pytest.mark.parametrize("name", OPERATIONS)
def test_special_values(name, isa):
    for c in range(1, LONGEST + 1):
        ours, definition = OPERATIONS[name](c)
        x = images(c)
        with np.errstate(all="ignore"):
            expected, y = definition(x), ours(x)
        finite = np.isfinite(expected)
        assert np.array_equal(y[~finite], expected[~finite].astype(np.float32), equal_nan=True), c
        np.testing.assert_allclose(y[finite], expected[finite], rtol=1e-4, atol=1e-5)
        if name in EXACT:
            bits = y[finite].view(np.int32)
            assert np.array_equal(bits, expected[finite].astype(np.float32).view(np.int32)), c

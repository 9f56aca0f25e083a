"""Bad arguments never do harm: ValueError or TypeError, beginning with the function's name, naming the argument, what
came and what was expected."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastcnn import functional as F

X = np.zeros((1, 32, 8, 8), np.float32)
W = np.zeros((4, 32, 3, 3), np.float32)
V = np.zeros(32, np.float32)


def ints(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: F.conv2d(X, ints(4, 16, 3, 3), groups=4),
            "conv2d: weight.shape[1]=16, expected in_channels/groups=8 (x.shape=(1, 32, 8, 8), groups=4)",
        ),
        (lambda: F.conv2d(X[0], W), "conv2d: x.shape=(32, 8, 8), expected 4 dimensions (N, C, H, W)"),
        (lambda: F.conv2d(X, W[0]), "conv2d: weight.shape=(32, 3, 3), expected 4 dimensions (O, C / groups, kh, kw)"),
        (lambda: F.conv2d(X, W, V), "conv2d: bias.shape=(32,), expected (4,) (weight.shape=(4, 32, 3, 3))"),
        (
            lambda: F.conv2d(X, W, groups=3),
            "conv2d: groups=3, expected a positive divisor of in_channels=32 and out_channels=4",
        ),
        (lambda: F.conv2d(X, W, stride=0), "conv2d: stride=0, expected an integer >= 1"),
        (lambda: F.conv2d(X, W, stride=(1, 2, 3)), "conv2d: stride=(1, 2, 3), expected an integer or a pair"),
        (lambda: F.conv2d(X, W, stride=True), "conv2d: stride=True, expected an integer"),
        (lambda: F.conv2d(X, W, stride=1.0), "conv2d: stride=1.0, expected an integer"),
        (
            lambda: F.conv2d(X, W, dilation=2**40),
            "conv2d: dilation=1099511627776, expected an integer >= 1 and < 2**31",
        ),
        (lambda: F.conv2d(X, W, padding=-1), "conv2d: padding=-1, expected an integer >= 0"),
        (lambda: F.conv2d(X, W, padding="some"), "conv2d: padding='some', expected 'same', 'valid'"),
        (lambda: F.conv2d(X, W, padding=(1, 2, 3)), "conv2d: padding=(1, 2, 3), expected an integer, a pair"),
        (lambda: F.conv2d(X, W, dilation=4), "conv2d: kernel_size=(3, 3) with dilation=(4, 4) covers 9 pixels"),
        (lambda: F.conv2d(X, W, algorithm="magic"), "conv2d: algorithm='magic', expected one of auto, depthwise"),
        (
            lambda: F.conv2d(X, W, algorithm="depthwise"),
            "conv2d: algorithm='depthwise' cannot compute this layer: not depthwise: 32 channels to 4 in 1 groups",
        ),
        (lambda: F.conv2d(X.astype(complex), W), "conv2d: x.dtype=complex128, expected a real number type"),
        (lambda: F.conv2d("photo", W), "conv2d: x.dtype=<U5, expected a real number type"),
        (lambda: F.conv2d(X, None), "conv2d: weight"),
        (lambda: F.conv2d(X, W, out=ints(1, 4, 5, 5)), "conv2d: out.shape=(1, 4, 5, 5), expected (1, 4, 6, 6)"),
        (lambda: F.conv2d(X, W, out=np.zeros((1, 4, 6, 6))), "conv2d: out.dtype=float64, expected float32"),
        (lambda: F.conv2d(X, W, out=[0]), "conv2d: out: got list, expected an ndarray"),
        (lambda: F.conv2d(X, W, out=ints(1, 6, 6, 4).transpose(0, 3, 1, 2)), "conv2d: out: strides="),
        (lambda: F.softmax(X, 4), "softmax: dim=4, expected an axis of x (x.shape=(1, 32, 8, 8))"),
        (
            lambda: F.linear(X, W),
            "linear: weight.shape=(4, 32, 3, 3), expected 2 dimensions (out_features, in_features)",
        ),
        (
            lambda: F.linear(ints(2, 3), ints(4, 5)),
            "linear: weight.shape[1]=5, expected in_features=3 (x.shape=(2, 3))",
        ),
        (
            lambda: F.matmul(ints(2, 3), ints(4, 5)),
            "matmul: b.shape=(4, 5) has matrices of 4 rows, expected 3, the columns of those of a (a.shape=(2, 3))",
        ),
        (
            lambda: F.matmul(ints(2, 2, 3), ints(3, 3, 4)),
            "matmul: b.shape=(3, 3, 4), expected axes before the last two that broadcast with a.shape=(2, 2, 3)",
        ),
        (lambda: F.matmul(ints(), V), "matmul: a.shape=(), expected at least 2 dimensions"),
        (lambda: F.matmul(X, None), "matmul: b: got None, expected an array"),
        (
            lambda: F.max_pool2d(X, 3, padding=2),
            "max_pool2d: padding=(2, 2, 2, 2), expected at most half of kernel_size",
        ),
        (lambda: F.max_pool2d(X, 9), "max_pool2d: kernel_size=(9, 9) with dilation=(1, 1) covers 9 pixels"),
        (lambda: F.max_pool2d(X, 2, ceil_mode=1), "max_pool2d: ceil_mode=1, expected True or False"),
        (lambda: F.batch_norm(X, V, ints(3)), "batch_norm: running_var.shape=(3,), expected (32,)"),
        (lambda: F.batch_norm(X, V, V, eps=-1.0), "batch_norm: eps=-1.0, expected a number >= 0"),
        (lambda: F.clip(X, 2, 1), "clip: min=2.0, expected at most max=1.0"),
        (lambda: F.clip(X, float("nan")), "clip: min=nan, expected a number"),
        (lambda: F.add(ints(2, 3), ints(4)), "add: y.shape=(4,), expected a shape that broadcasts with x.shape=(2, 3)"),
        (lambda: F.concat([]), "concat: arrays=[], expected a list of at least one array"),
        (lambda: F.concat([ints(2, 3), ints(3, 3)]), "concat: arrays[1].shape=(3, 3), expected (2, 3) except at dim=1"),
        (lambda: F.pad(X, (1,)), "pad: padding=(1,), expected pairs for at most 4 dimensions"),
        (lambda: F.flatten(X, 4), "flatten: start_dim=4, expected an axis of x"),
        (lambda: F.dropout(X, 1.5), "dropout: p=1.5, expected a probability from 0 to 1"),
        (lambda: F.leaky_relu(X, "steep"), "leaky_relu: negative_slope='steep', expected a number"),
    ],
)
def test_message(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value).startswith(message)


def test_outputs_may_not_overlap_inputs():
    memory = np.zeros(1000, np.float32)
    x, out = memory[:600].reshape(1, 6, 10, 10), memory[400:1000].reshape(1, 6, 10, 10)
    with pytest.raises(ValueError, match="relu: out: overlaps an input"):
        F.relu(x, out=out)
    weight = np.zeros((6, 6, 1, 1), np.float32)
    with pytest.raises(ValueError, match="conv2d: out: overlaps an input"):
        F.conv2d(x, weight, out=x)
    assert F.relu(x, out=x) is x  # elementwise, just in place


def test_unreasonable_sizes_are_refused_before_anything_is_allocated():
    x = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises((ValueError, MemoryError)):
        F.pad(x, (2**31 - 1, 0, 2**31 - 1, 0))
    with pytest.raises((ValueError, MemoryError)):
        F.conv2d(x, np.zeros((1, 1, 1, 1), np.float32), padding=2**31 - 1)
    assert F.relu(x).shape == x.shape  # and the next call works


SMALL = st.sampled_from(
    [
        np.zeros((1, 2, 4, 4), np.float32),
        np.zeros((2, 2, 3, 3), np.float32),
        np.zeros((2, 1, 1, 1), np.float32),
        np.zeros((0, 2, 4, 4), np.float32),
        np.zeros((1, 2, 0, 4), np.float32),
        np.zeros(2, np.float32),
        np.float32(1),
        np.zeros((3, 2)),
        np.arange(2),
        np.ones((1, 2, 4, 4), bool),
        np.zeros(2, complex),
        np.array(["a"]),
        np.array([None]),
        np.zeros((1, 2, 4, 4), np.longdouble),
        np.zeros((2, 2, 2, 2, 2)),
        [[1.0], [2.0, 3.0]],
        np.zeros((1, 2, 4, 4), ">f4"),
        np.full((1, 2, 4, 4), np.nan, np.float32),
        np.array("2020", "M8[D]"),
    ]
)
NUMBERS = st.one_of(
    st.integers(-3, 5), st.sampled_from([2**31, 2**40, 2**70, -(2**63), True, 1.0, 0.5, -1.5, np.int8(2), np.nan])
)
JUNK = st.one_of(
    SMALL,
    NUMBERS,
    st.none(),
    st.text(max_size=3),
    st.sampled_from(["same", "valid", "direct", "im2col", object(), {}]),
    st.lists(NUMBERS, max_size=5),
    st.lists(NUMBERS, max_size=5).map(tuple),
    st.lists(SMALL, max_size=3),
)
FUNCTIONS = sorted(F.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_junk_gives_named_errors(name, budget):
    function = getattr(F, name)
    parameters = inspect.signature(function).parameters.values()
    first = {p.name: st.one_of(SMALL, SMALL, JUNK) for p in parameters if p.default is inspect.Parameter.empty}
    rest = {p.name: JUNK for p in parameters if p.default is not inspect.Parameter.empty}

    @settings(
        max_examples=budget(10_000, 100_000) // len(FUNCTIONS),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.fixed_dictionaries(first, optional=rest))
    def check(arguments):
        try:
            function(**arguments)
        except (ValueError, TypeError) as error:
            assert str(error).startswith(f"{name}: "), error
        except MemoryError:
            pass

    check()

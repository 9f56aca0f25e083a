"""Floating-point modes that another library has set in the calling thread: results are those of the default modes, and
the caller's modes come back."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from c_library import c_library

import fastcnn as fc
from fastcnn import functional as F

if platform.machine() not in ("x86_64", "AMD64"):
    pytest.skip("the modes are set by a register of x86-64 here", allow_module_level=True)

DEFAULT, FLUSH_TO_ZERO, ROUND_UP = 0x1F80, 0x1F80 | 0x8040, 0x1F80 | 0x4000

SOURCE = """
#include <xmmintrin.h>
unsigned get_modes(void) { return _mm_getcsr() & ~0x3fu; } /* without the flags that operations leave */
void set_modes(unsigned modes) { _mm_setcsr(modes); }
"""


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    return c_library(SOURCE, tmp_path_factory.mktemp("modes"))


@pytest.fixture
def modes(processor):
    """modes(value, call): the result of a call within these modes."""

    def within(value, call):
        processor.set_modes(value)
        try:
            result = call()
            assert processor.get_modes() == value
        finally:
            processor.set_modes(DEFAULT)
        return result

    return within


IMAGE = np.full((1, 64, 64, 64), 2e-39, np.float32)
WEIGHT = np.full((64, 64, 3, 3), 2**-4, np.float32)


def tiny_convolution(threads: int) -> np.ndarray:
    """Products that are subnormal, on a given number of threads."""
    with fc.num_threads(threads):
        return F.conv2d(IMAGE, WEIGHT, padding=1)


@pytest.mark.parametrize("value", [FLUSH_TO_ZERO, ROUND_UP])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_convolution(value, threads, modes, isa):
    expected = tiny_convolution(1)
    assert expected.max() > 0
    np.testing.assert_array_equal(modes(value, lambda: tiny_convolution(threads)), expected)


@pytest.mark.parametrize("value", [FLUSH_TO_ZERO, ROUND_UP])
def test_compiling_and_predicting_a_network(value, modes):
    """Folding and packing compute, too: Winograd's filters, batch normalisation."""
    images = np.random.default_rng(0).standard_normal((9, 3, 32, 32)).astype(np.float32)
    fc.layers.manual_seed(0)
    model, again = (fc.zoo.resnet20() for _ in range(2))
    again.load_state_dict(model.state_dict())
    expected = model(images)
    np.testing.assert_array_equal(modes(value, lambda: again(images)), expected)
    np.testing.assert_array_equal(modes(value, lambda: model(images)), expected)


@pytest.mark.parametrize("value", [FLUSH_TO_ZERO, ROUND_UP])
def test_training_step(value, modes):
    x, y = np.random.default_rng(0).random((32, 1, 8, 8), np.float32), np.arange(32) % 3
    weights = []
    for current in (DEFAULT, value):
        fc.layers.manual_seed(0)
        model = fc.zoo.small_cnn(num_classes=3, in_channels=1, image_size=8)
        trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
        modes(current, lambda trainer=trainer: [trainer.step(x, y) for _ in range(3)])
        weights.append(model.state_dict())
    for name, expected in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], expected)

"""No step of bytes is deaf for long, whatever its geometry. Compared is what the steps tell of their work: nothing is
run, and no memory touched."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.kernels import _cpu, _step
from fastcnn.kernels._int8_conv import Int8Conv, Int8Depthwise
from fastcnn.kernels._pool import Int8Pool
from fastcnn.kernels.view import UINT8, View

pytestmark = pytest.mark.usefixtures("int8_isa")


def view(c, h, w, halo=(0, 0, 0, 0)):
    lanes = _cpu.vector_length()
    row = (w + halo[1] + halo[3]) * lanes
    block = (h + halo[0] + halo[2]) * row
    return View(1, c, h, w, -(-c // lanes) * block, block, row, lanes, halo, element=UINT8)


def convolution(step, c, outs, h, w, kernel, groups=1):
    """A convolution whose outputs are as large as its inputs. Its weights are not read."""
    pads = (kernel[0] // 2, kernel[1] // 2) * 2
    nothing, sizes = np.zeros(1 << 20, np.uint8), (np.zeros(outs, np.int32), np.zeros(outs, np.float32))
    window = (kernel, (1, 1), pads, (1, 1), groups)
    return step(view(outs, h, w), view(c, h, w, pads), None, nothing, *sizes, *window, 0, 0.0, 0, 0, 255)


CASES = {
    "many channels": lambda: convolution(Int8Conv, 8192, 8192, 14, 14, (3, 3)),
    "large filter": lambda: convolution(Int8Conv, 16, 64, 500, 500, (401, 401)),
    "row": lambda: convolution(Int8Conv, 64, 64, 1, 200_000, (1, 1001)),
    "depthwise": lambda: convolution(Int8Depthwise, 16, 16, 3000, 3000, (2001, 2001), 16),
    "depthwise row": lambda: convolution(Int8Depthwise, 64, 64, 1, 200_000, (1, 1001), 64),
    "maxima": lambda: Int8Pool(
        view(1, 3000, 3000), view(1, 3000, 3000), False, (2001, 2001), (1, 1), (1000,) * 4, (1, 1), False, 1.0, 0, 0
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_look_at_signals(name):
    assert 0 < CASES[name]().longest <= _step.LONGEST_PIECE


def test_layers_of_few_channels_are_work_for_many_threads():
    step = convolution(Int8Conv, 32, 32, 32, 32, (3, 3))
    vectors = 32 * 32 * (32 // _cpu.vector_length()) * (9 * 32 // 4)
    assert vectors // 16 <= step.longest <= vectors // 12

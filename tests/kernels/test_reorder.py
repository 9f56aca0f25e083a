"""Pixels to numbers: each layout, with and without halo, against indexing by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from memory_guard import guarded

from fastcnn.kernels import _cpu
from fastcnn.kernels._executor import Executor
from fastcnn.kernels._reorder import Lookup
from fastcnn.kernels.storage import ALIGNMENT, allocate
from fastcnn.kernels.view import NO_HALO, View, dense_view, pixel_view

SHAPES = [(1, 3, 1, 1), (2, 3, 5, 7), (3, 1, 4, 9), (1, 4, 6, 3), (2, 5, 3, 2), (1, 19, 2, 5)]


def guarded_pixels(n: int, c: int, h: int, w: int) -> np.ndarray:
    """Random pixels (n, h, w, c) that end at a page that must not be touched."""
    size = n * c * h * w
    pixels = guarded((-(-size // 4),)).view(np.uint8)[-size:].reshape(n, h, w, c)
    pixels[...] = np.random.default_rng(size).integers(0, 256, pixels.shape)
    return pixels


def numbers_of(y: np.ndarray, shape: tuple[int, ...], lanes: int, halo: tuple[int, ...]) -> np.ndarray:
    """Blocks (N, C / lanes, H, W, lanes) as (N, C, H, W), with all lanes and the halo."""
    n, c, h, w = shape
    top, left, bottom, right = halo
    blocks = y.reshape(n, -(-c // lanes), top + h + bottom, left + w + right, lanes)
    return blocks.transpose(0, 1, 4, 2, 3).reshape(n, -1, *blocks.shape[2:4])


@pytest.mark.parametrize("halo", [NO_HALO, (1, 1, 1, 1), (0, 2, 3, 1)])
@pytest.mark.parametrize("blocking", ["plain", "pixels", "vectors"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lookup(shape, blocking, halo, isa):
    n, c, h, w = shape
    lanes = {"plain": 1, "pixels": c, "vectors": _cpu.vector_length()}[blocking]
    top, left, bottom, right = halo
    row = (left + w + right) * lanes
    block = (top + h + bottom) * row
    image = -(-c // lanes) * block
    view = View(n, c, h, w, image, block, row, lanes, halo, slot=3, offset=top * row + left * lanes)
    table = guarded((c, 256), np.random.default_rng(c).standard_normal((c, 256)))
    table[0, :3] = np.nan, np.inf, -0.0
    pixels = guarded_pixels(*shape)
    pixels.flags.writeable = False
    expected = np.zeros((n, -(-c // lanes) * lanes, top + h + bottom, left + w + right), np.float32)
    expected[:, :c, top : top + h, left : left + w] = table[np.arange(c), pixels].transpose(0, 3, 1, 2)
    step = Lookup(view, pixel_view(shape, 1), dense_view((c, 256), 2))
    executor = Executor([step], [False], allocate(1), allocate(3 * ALIGNMENT), 3)
    for threads in (1, 2, 3):
        y = guarded((n * image,))
        executor.run([pixels, table, y], threads)
        assert numbers_of(y, shape, lanes, halo).tobytes() == expected.tobytes(), threads

"""Steps of 8-bit layers, run on guarded memory of the layout that kernels take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from memory_guard import guarded

from fastcnn.kernels._executor import Executor
from fastcnn.kernels.storage import allocate
from fastcnn.kernels.view import FLOAT32, NO_HALO, UINT8, Halo, View


@dataclass
class Value:
    """A tensor in memory: all of it, and how kernels see it."""

    memory: np.ndarray
    view: View

    def pixels(self) -> np.ndarray:
        """[N][blocks][rows][columns][lanes] inside the halo, as a view of the memory."""
        v, size = self.view, self.memory.itemsize
        shape = (v.n, -(-v.c // v.lanes), v.h, v.w, v.lanes)
        strides = [size * step for step in (v.image, v.block, v.row, v.lanes, 1)]
        return np.lib.stride_tricks.as_strided(self.memory[v.offset :], shape, strides)

    def numbers(self) -> np.ndarray:
        """As an array (N, C, H, W)."""
        v = self.view
        pixels = self.pixels().transpose(0, 1, 4, 2, 3)
        return pixels.reshape(v.n, -1, v.h, v.w)[:, : v.c].copy()


def room(
    shape: tuple[int, ...], lanes: int, slot: int, halo: Halo = NO_HALO, element: str = UINT8, fill: int = 0
) -> Value:
    """Memory for a tensor, poisoned: NaN, or a byte that none of its neighbours has."""
    n, c, h, w = shape
    top, left, bottom, right = halo
    row = (w + left + right) * lanes
    block = (h + top + bottom) * row
    blocks = -(-c // lanes)
    kind = np.uint8 if element == UINT8 else np.float32
    poison = np.random.default_rng(slot).integers(0, 256, n * blocks * block) if element == UINT8 else np.nan
    memory = guarded((n * blocks * block,), poison, first=bool((c + w) % 2), kind=kind)
    view = View(n, c, h, w, blocks * block, block, row, lanes, halo, slot, top * row + left * lanes, element, fill)
    return Value(memory, view)


def plain_rows(n: int, c: int, slot: int, element: str) -> Value:
    """Memory for rows of c channels without anything between them."""
    kind = np.uint8 if element == UINT8 else np.float32
    memory = guarded((n * c,), 0, first=bool(c % 2), kind=kind)
    return Value(memory, View(n, c, 1, 1, c, 1, 1, slot=slot, element=element))


def place(x: np.ndarray, lanes: int, slot: int, halo: Halo = NO_HALO, fill: int = 0) -> Value:
    """A tensor in memory with its halo. Lanes beyond the channels hold anything."""
    value = room(x.shape, lanes, slot, halo, UINT8 if x.dtype == np.uint8 else FLOAT32, fill)
    v, pixels = value.view, value.pixels()
    padded = pixels.transpose(0, 1, 4, 2, 3).reshape(v.n, -1, v.h, v.w).copy()
    padded[:, : v.c] = x
    if halo != NO_HALO:
        value.memory.reshape(v.n, pixels.shape[1], -1, v.row)[...] = fill
    pixels[...] = padded.reshape(v.n, pixels.shape[1], lanes, v.h, v.w).transpose(0, 1, 3, 4, 2)
    return value


def run(make, *values: Value, threads: int = 1) -> None:
    """Run the step that `make()` returns; the values lie in slots 1, 2, ..."""
    step = make()
    executor = Executor([step], [False], allocate(1), allocate(threads * (2 + step.scratch)), threads)
    executor.run([value.memory for value in values], threads)


def finish_of(rng, outs):
    """Factors and bounds of outputs."""
    low, high = sorted(int(b) for b in rng.integers(0, 256, 2)) if rng.integers(2) else (0, 255)
    scale = (rng.random(outs) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
    return scale, int(rng.integers(0, 256)), low, high

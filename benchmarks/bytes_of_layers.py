"""Layers of bytes as steps of their own, on blocked memory: what bench_kernels.py times."""

from __future__ import annotations

import numpy as np

from fastcnn.cli._shapes import Layer
from fastcnn.kernels import _cpu
from fastcnn.kernels._executor import Executor
from fastcnn.kernels._int8_conv import Int8Conv, Int8Depthwise
from fastcnn.kernels.int8_weights import pack_int8_depthwise, pack_int8_weights
from fastcnn.kernels.storage import allocate
from fastcnn.kernels.view import UINT8, View


def place(channels: int, size: int, halo: int, slot: int) -> tuple[np.ndarray, View]:
    """Memory for a square image of bytes with random contents, and its view."""
    lanes = 4 if channels <= 4 else _cpu.vector_length()
    row = (size + 2 * halo) * lanes
    block = (size + 2 * halo) * row
    image = -(-channels // lanes) * block
    memory = np.random.default_rng(0).integers(0, 256, image).astype(np.uint8)
    offset = halo * (row + lanes)
    view = View(1, channels, size, size, image, block, row, lanes, (halo,) * 4, slot, offset, UINT8)
    return memory, view


def call_of(layer: Layer):
    """A call that computes a layer on the number of threads in use."""
    x_memory, x = place(layer.ins, layer.size, layer.padding, 1)
    y_memory, y = place(layer.outs, layer.out, 0, 2)
    kernel, strides, pads = (layer.kernel,) * 2, (layer.stride,) * 2, (layer.padding,) * 4
    shape = (layer.outs, layer.ins // layer.groups, *kernel)
    weight = np.random.default_rng(1).integers(-127, 128, shape).astype(np.int8)
    bias, scale = np.zeros(layer.outs, np.int32), np.full(layer.outs, 1e-4, np.float32)
    shared = (bias, scale, kernel, strides, pads, (1, 1), layer.groups, 128, 0.0, 0, 0, 255)
    if layer.groups == layer.ins == layer.outs:
        step = Int8Depthwise(y, x, None, pack_int8_depthwise(weight, strides), *shared)
    else:
        step = Int8Conv(y, x, None, pack_int8_weights(weight, layer.groups, x.lanes), *shared)
    threads = _cpu.get_num_threads()
    executor = Executor([step], [False], allocate(1), allocate(threads * (16 + step.scratch)), threads)
    return lambda: executor.run([x_memory, y_memory], threads)

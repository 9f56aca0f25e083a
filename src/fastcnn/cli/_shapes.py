"""Convolution layers of well-known networks: what benchmarks measure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Layer(NamedTuple):
    """A convolution layer with a square image and kernel.

    Attributes
    ----------
    name : str
    ins, outs, size, kernel, stride, padding, groups : int
    """

    name: str
    ins: int
    outs: int
    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def out(self) -> int:
        """Height and width of the output."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def operations(self) -> int:
        """Floating point operations; a multiply-add counts two."""
        return 2 * self.outs * self.out * self.out * self.ins // self.groups * self.kernel**2

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Input (1, C, H, W) and weights (O, C / groups, k, k), random and always the same."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((1, self.ins, self.size, self.size), np.float32)
        return x, rng.standard_normal((self.outs, self.ins // self.groups, self.kernel, self.kernel), np.float32)


LAYERS = (
    Layer("ResNet first 7x7/2 3>64 @224", 3, 64, 224, 7, 2, 3),
    Layer("ResNet 3x3 64>64 @56", 64, 64, 56, 3, 1, 1),
    Layer("ResNet 3x3/2 64>128 @56", 64, 128, 56, 3, 2, 1),
    Layer("ResNet 3x3 256>256 @14", 256, 256, 14, 3, 1, 1),
    Layer("ResNet 1x1 256>64 @56", 256, 64, 56, 1),
    Layer("ResNet 1x1 512>2048 @7", 512, 2048, 7, 1),
    Layer("VGG 3x3 128>128 @112", 128, 128, 112, 3, 1, 1),
    Layer("MobileNet first 3x3/2 3>32 @224", 3, 32, 224, 3, 2, 1),
    Layer("MobileNet depthwise 3x3 144 @56", 144, 144, 56, 3, 1, 1, 144),
    Layer("LeNet 5x5 6>16 @14", 6, 16, 14, 5),
)

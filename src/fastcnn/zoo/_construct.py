"""What the architectures share: seeded construction, He's first weights, rounding of channel counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from fastcnn._arguments import as_share
from fastcnn.layers import Conv2d, seeded
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model

__all__ = ["construct", "rising_shares", "round_channels"]

M = TypeVar("M", bound=Model)


def construct(make: Callable[[], M], input_shape: tuple[int, ...], rng: RandomSource) -> M:
    """Build a network with reproducible first weights that suit networks of any depth.

    Convolution weights are normal with variance 2 / (kernel area * output channels of a group), biases
    zero: He et al., "Delving Deep into Rectifiers", 2015, fan-out mode, as torchvision has it, but
    counting a group's outputs only, without which depthwise layers would fade. The other layers keep
    their defaults.
    """
    with seeded(rng) as generator:
        model = make()
        for _, layer in model.named_layers():
            if isinstance(layer, Conv2d):
                out_channels, _, kh, kw = layer.weight.shape
                deviation = math.sqrt(2 / (kh * kw * out_channels / layer.groups))
                layer.weight = deviation * generator.standard_normal(layer.weight.shape, np.float32)
                if layer.bias is not None:
                    layer.bias = np.zeros(out_channels)
    model.input_shape = input_shape
    return model


def rising_shares(drop_path: float, blocks: int, last: int) -> list[float]:
    """Let the share of inputs that skip a block grow with depth, from 0 to `drop_path` in the block number `last`.

    Raises
    ------
    TypeError, ValueError
        If `drop_path` is not a number from 0 to 1.

    Examples
    --------
    >>> rising_shares(0.2, blocks=3, last=2)
    [0.0, 0.1, 0.2]
    """
    share = as_share(drop_path, "drop_path")
    return [share * i / last for i in range(blocks)]


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, but not down by more than a tenth.

    The rule of the MobileNet family (https://arxiv.org/abs/1801.04381, reference implementation).

    Examples
    --------
    >>> round_channels(17.6), round_channels(44), round_channels(11)
    (16, 48, 16)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded

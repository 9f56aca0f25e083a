"""EfficientNet-Lite0 to 4: EfficientNet (Tan and Le, 2019) without squeeze-excite, with ReLU6.

Layer names are those of the ImageNet checkpoints that zoo/pretrained.py reads. The tables are of the
reference implementation, github.com/tensorflow/tpu, models/official/efficientnet/lite. Padding is
TensorFlow's "SAME", and batch normalisation has eps 1e-3. At every scale stem and head keep their width, and
the first and last stage their depth.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fastcnn import functional
from fastcnn.layers import BatchNorm2d, Conv2d, Dropout, GlobalAvgPool2d, Layer, Linear, ReLU6
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct, round_channels

__all__ = [
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
]


class Stage(NamedTuple):
    """Blocks of one shape, before scaling."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    kernel_size: int


class Scale(NamedTuple):
    """What makes one member of the family of another."""

    width: float
    depth: float
    image_size: int
    dropout: float


STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
EPS = 1e-3

LITE0 = Scale(1.0, 1.0, 224, 0.2)
LITE1 = Scale(1.0, 1.1, 240, 0.2)
LITE2 = Scale(1.1, 1.2, 260, 0.3)
LITE3 = Scale(1.2, 1.4, 280, 0.3)
LITE4 = Scale(1.4, 1.8, 300, 0.3)


class MBConv(Layer):
    """1x1 convolution to more channels, depthwise, 1x1 to few without ReLU; plus the input if it fits."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, kernel: int) -> None:
        hidden = in_channels * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = Conv2d(in_channels, hidden, 1, bias=False)
            self._bn0 = BatchNorm2d(hidden, EPS)
        self._depthwise_conv = Conv2d(hidden, hidden, kernel, stride, padding="same", groups=hidden, bias=False)
        self._bn1 = BatchNorm2d(hidden, EPS)
        self._project_conv = Conv2d(hidden, out_channels, 1, bias=False)
        self._bn2 = BatchNorm2d(out_channels, EPS)
        self._relu = ReLU6()
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride), sizes rounded up."""
        y = self._relu(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self._relu(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.is_residual else y


class EfficientNetLite(Model):
    """A strided 3x3 convolution, stages of `MBConv` blocks, a 1x1 convolution, one fully connected layer.

    Parameters
    ----------
    scale : Scale
        Factors on the widths and depths of the stages, and the dropout before the last layer.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    """

    def __init__(self, scale: Scale, num_classes: int, in_channels: int) -> None:
        channels = STEM_CHANNELS
        self._conv_stem = Conv2d(in_channels, channels, 3, 2, padding="same", bias=False)
        self._bn0 = BatchNorm2d(channels, EPS)
        blocks: list[Layer] = []
        for stage in STAGES:
            is_fixed = stage in (STAGES[0], STAGES[-1])
            out_channels = round_channels(stage.channels * scale.width)
            for i in range(stage.blocks if is_fixed else math.ceil(stage.blocks * scale.depth)):
                stride = stage.stride if i == 0 else 1
                blocks.append(MBConv(channels, out_channels, stride, stage.expansion, stage.kernel_size))
                channels = out_channels
        self._blocks = Sequential(*blocks)
        self._conv_head = Conv2d(channels, HEAD_CHANNELS, 1, bias=False)
        self._bn1 = BatchNorm2d(HEAD_CHANNELS, EPS)
        self._relu = ReLU6()
        self._avg_pooling = GlobalAvgPool2d()
        self._dropout = Dropout(scale.dropout)
        self._fc = Linear(HEAD_CHANNELS, num_classes)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        x = self._blocks(self._relu(self._bn0(self._conv_stem(x))))
        x = self._avg_pooling(self._relu(self._bn1(self._conv_head(x))))
        return self._fc(self._dropout(functional.flatten(x)))


def build(scale: Scale, num_classes: int = 1000, in_channels: int = 3, rng: RandomSource = 0) -> Model:
    """Build the member of the family that `scale` describes; see `efficientnet_lite0`."""
    shape = (in_channels, scale.image_size, scale.image_size)
    return construct(lambda: EfficientNetLite(scale, num_classes, in_channels), shape, rng)


def efficientnet_lite0(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """EfficientNet-Lite0: 4.7 million parameters with 1000 classes, 224x224 images.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` set to the size the architecture is meant for; other sizes work too.

    Examples
    --------
    >>> sum(array.size for _, array in efficientnet_lite0().named_parameters())
    4652008
    """
    return build(LITE0, num_classes, in_channels, rng)


def efficientnet_lite1(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """EfficientNet-Lite1: 5.4 million parameters, 240x240 images; else as `efficientnet_lite0`.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `efficientnet_lite0`.

    Returns
    -------
    Model

    Examples
    --------
    >>> efficientnet_lite1().input_shape
    (3, 240, 240)
    """
    return build(LITE1, num_classes, in_channels, rng)


def efficientnet_lite2(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """EfficientNet-Lite2: 6.1 million parameters, 260x260 images; else as `efficientnet_lite0`.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `efficientnet_lite0`.

    Returns
    -------
    Model

    Examples
    --------
    >>> efficientnet_lite2().input_shape
    (3, 260, 260)
    """
    return build(LITE2, num_classes, in_channels, rng)


def efficientnet_lite3(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """EfficientNet-Lite3: 8.2 million parameters, 280x280 images; else as `efficientnet_lite0`.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `efficientnet_lite0`.

    Returns
    -------
    Model

    Examples
    --------
    >>> efficientnet_lite3().input_shape
    (3, 280, 280)
    """
    return build(LITE3, num_classes, in_channels, rng)


def efficientnet_lite4(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """EfficientNet-Lite4: 13.0 million parameters, 300x300 images; else as `efficientnet_lite0`.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `efficientnet_lite0`.

    Returns
    -------
    Model

    Examples
    --------
    >>> efficientnet_lite4().input_shape
    (3, 300, 300)
    """
    return build(LITE4, num_classes, in_channels, rng)

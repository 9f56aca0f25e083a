"""MobileNetV2: Sandler et al., "Inverted Residuals and Linear Bottlenecks", 2018. Names as torchvision's."""

from __future__ import annotations

from typing import Any

from fastcnn import functional
from fastcnn.layers import BatchNorm2d, Conv2d, Dropout, GlobalAvgPool2d, Layer, Linear, ReLU6
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._blocks import conv_norm
from fastcnn.zoo._construct import construct

__all__ = ["mobilenet_v2"]

# Expansion, output channels, blocks, stride of the first block: table 2 of the paper.
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class InvertedResidual(Layer):
    """1x1 convolution to more channels, 3x3 depthwise, 1x1 to few without ReLU; plus the input if it fits."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        hidden = in_channels * expansion
        steps: list[Layer] = [conv_norm(in_channels, hidden, 1, activation=ReLU6)] if expansion != 1 else []
        steps += [
            conv_norm(hidden, hidden, 3, stride, hidden, ReLU6),
            Conv2d(hidden, out_channels, 1, bias=False),
            BatchNorm2d(out_channels),
        ]
        self.conv = Sequential(*steps)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(Model):
    """A strided 3x3 convolution, inverted residual blocks, a 1x1 convolution, one fully connected layer.

    Parameters
    ----------
    table : tuple of (int, int, int, int)
        Expansion, output channels, number of blocks, and stride of the first one, of each stage.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    """

    def __init__(self, table: tuple[tuple[int, int, int, int], ...], num_classes: int, in_channels: int) -> None:
        channels = STEM_CHANNELS
        features: list[Layer] = [conv_norm(in_channels, channels, 3, 2, activation=ReLU6)]
        for expansion, out_channels, blocks, first_stride in table:
            for i in range(blocks):
                features.append(InvertedResidual(channels, out_channels, first_stride if i == 0 else 1, expansion))
                channels = out_channels
        features.append(conv_norm(channels, HEAD_CHANNELS, 1, activation=ReLU6))
        self.features = Sequential(*features)
        self.avgpool = GlobalAvgPool2d()
        self.classifier = Sequential(Dropout(0.2), Linear(HEAD_CHANNELS, num_classes))

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        return self.classifier(functional.flatten(self.avgpool(self.features(x))))


def mobilenet_v2(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """MobileNetV2: seventeen inverted residual blocks, 3.5 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 224, 224); other sizes work too.

    Examples
    --------
    >>> sum(array.size for _, array in mobilenet_v2().named_parameters())
    3504872
    """
    return construct(lambda: MobileNetV2(MOBILENET_V2, num_classes, in_channels), (in_channels, 224, 224), rng)

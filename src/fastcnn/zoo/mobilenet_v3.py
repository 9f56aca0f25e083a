"""MobileNetV3: Howard et al., "Searching for MobileNetV3", 2019. Names as torchvision's."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from fastcnn import functional
from fastcnn.layers import BatchNorm2d, Dropout, GlobalAvgPool2d, HardSigmoid, HardSwish, Layer, Linear, ReLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._blocks import SqueezeExcitation, conv_norm
from fastcnn.zoo._construct import construct, round_channels

__all__ = ["mobilenet_v3_large", "mobilenet_v3_small"]


class Row(NamedTuple):
    """One block."""

    kernel_size: int
    expanded: int
    channels: int
    squeezes: bool
    activation: type[Layer]
    stride: int


class Variant(NamedTuple):
    """Blocks, and the width of the layer before the last."""

    rows: tuple[Row, ...]
    hidden: int


# Tables 1 and 2 of the paper.
LARGE = Variant(
    (
        Row(3, 16, 16, False, ReLU, 1),
        Row(3, 64, 24, False, ReLU, 2),
        Row(3, 72, 24, False, ReLU, 1),
        Row(5, 72, 40, True, ReLU, 2),
        Row(5, 120, 40, True, ReLU, 1),
        Row(5, 120, 40, True, ReLU, 1),
        Row(3, 240, 80, False, HardSwish, 2),
        Row(3, 200, 80, False, HardSwish, 1),
        Row(3, 184, 80, False, HardSwish, 1),
        Row(3, 184, 80, False, HardSwish, 1),
        Row(3, 480, 112, True, HardSwish, 1),
        Row(3, 672, 112, True, HardSwish, 1),
        Row(5, 672, 160, True, HardSwish, 2),
        Row(5, 960, 160, True, HardSwish, 1),
        Row(5, 960, 160, True, HardSwish, 1),
    ),
    1280,
)
SMALL = Variant(
    (
        Row(3, 16, 16, True, ReLU, 2),
        Row(3, 72, 24, False, ReLU, 2),
        Row(3, 88, 24, False, ReLU, 1),
        Row(5, 96, 40, True, HardSwish, 2),
        Row(5, 240, 40, True, HardSwish, 1),
        Row(5, 240, 40, True, HardSwish, 1),
        Row(5, 120, 48, True, HardSwish, 1),
        Row(5, 144, 48, True, HardSwish, 1),
        Row(5, 288, 96, True, HardSwish, 2),
        Row(5, 576, 96, True, HardSwish, 1),
        Row(5, 576, 96, True, HardSwish, 1),
    ),
    1024,
)
STEM_CHANNELS = 16
HEAD_EXPANSION = 6
NORM = partial(BatchNorm2d, eps=1e-3, momentum=0.01)


class InvertedResidual(Layer):
    """1x1 convolution to more channels, depthwise, squeeze-and-excitation, 1x1 to few; plus the input if it fits."""

    def __init__(self, in_channels: int, row: Row) -> None:
        expanded, activation = row.expanded, row.activation
        steps: list[Layer] = []
        if expanded != in_channels:
            steps.append(conv_norm(in_channels, expanded, 1, activation=activation, norm=NORM))
        steps.append(conv_norm(expanded, expanded, row.kernel_size, row.stride, expanded, activation, NORM))
        if row.squeezes:
            steps.append(SqueezeExcitation(expanded, round_channels(expanded // 4), gate=HardSigmoid))
        steps.append(conv_norm(expanded, row.channels, 1, activation=None, norm=NORM))
        self.block = Sequential(*steps)
        self.is_residual = row.stride == 1 and in_channels == row.channels

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, row.channels, H/stride, W/stride)."""
        return x + self.block(x) if self.is_residual else self.block(x)


class MobileNetV3(Model):
    """A strided 3x3 convolution, inverted residual blocks, a 1x1 convolution, two fully connected layers.

    Parameters
    ----------
    variant : Variant
        The table of blocks, and the width of the layer before the last.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    """

    def __init__(self, variant: Variant, num_classes: int, in_channels: int) -> None:
        channels = STEM_CHANNELS
        features: list[Layer] = [conv_norm(in_channels, channels, 3, 2, activation=HardSwish, norm=NORM)]
        for row in variant.rows:
            features.append(InvertedResidual(channels, row))
            channels = row.channels
        wide = HEAD_EXPANSION * channels
        features.append(conv_norm(channels, wide, 1, activation=HardSwish, norm=NORM))
        self.features = Sequential(*features)
        self.avgpool = GlobalAvgPool2d()
        hidden = Linear(wide, variant.hidden)
        self.classifier = Sequential(hidden, HardSwish(), Dropout(0.2), Linear(variant.hidden, num_classes))

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        return self.classifier(functional.flatten(self.avgpool(self.features(x))))


def mobilenet_v3_large(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """MobileNetV3-Large: fifteen inverted residual blocks, 5.5 million parameters with 1000 classes.

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
    >>> sum(array.size for _, array in mobilenet_v3_large().named_parameters())
    5483032
    """
    return construct(lambda: MobileNetV3(LARGE, num_classes, in_channels), (in_channels, 224, 224), rng)


def mobilenet_v3_small(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """MobileNetV3-Small: eleven inverted residual blocks, 2.5 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels, rng
        As for `mobilenet_v3_large`.

    Returns
    -------
    Model

    Examples
    --------
    >>> sum(array.size for _, array in mobilenet_v3_small().named_parameters())
    2542856
    """
    return construct(lambda: MobileNetV3(SMALL, num_classes, in_channels), (in_channels, 224, 224), rng)

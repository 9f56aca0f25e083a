"""SqueezeNet: Iandola et al., 2016, version 1.1 of the authors' repository. Names as torchvision's."""

from __future__ import annotations

from typing import Any

from fastcnn import functional
from fastcnn.layers import Conv2d, Dropout, GlobalAvgPool2d, Layer, MaxPool2d, ReLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct

__all__ = ["squeezenet1_1"]

# (squeeze, expand) channels of the Fire modules; a pooling comes before each row.
SQUEEZENET1_1 = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)


class Fire(Layer):
    """A 1x1 convolution that squeezes the channels, then 1x1 and 3x3 ones side by side that expand them."""

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        self.squeeze = Conv2d(in_channels, squeeze, 1)
        self.squeeze_activation = ReLU()
        self.expand1x1 = Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = ReLU()
        self.expand3x3 = Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = ReLU()

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, 2 * expand, H, W)."""
        x = self.squeeze_activation(self.squeeze(x))
        sides = (self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x)))
        return functional.concat(sides)


class SqueezeNet(Model):
    """A 3x3 convolution, rows of Fire modules, and a 1x1 convolution whose channels are the classes.

    Parameters
    ----------
    rows : tuple of tuples of (int, int)
        Squeeze and expand channels of the Fire modules between poolings.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    """

    def __init__(self, rows: tuple[tuple[tuple[int, int], ...], ...], num_classes: int, in_channels: int) -> None:
        channels = 64
        features: list[Layer] = [Conv2d(in_channels, channels, 3, 2), ReLU()]
        for row in rows:
            features.append(MaxPool2d(3, 2, ceil_mode=True))
            for squeeze, expand in row:
                features.append(Fire(channels, squeeze, expand))
                channels = 2 * expand
        self.features = Sequential(*features)
        self.classifier = Sequential(Dropout(), Conv2d(channels, num_classes, 1), ReLU(), GlobalAvgPool2d())

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        return functional.flatten(self.classifier(self.features(x)))


def squeezenet1_1(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """SqueezeNet 1.1: eight Fire modules, 1.2 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 224, 224); other sizes from 17 on work too.

    Examples
    --------
    >>> sum(array.size for _, array in squeezenet1_1().named_parameters())
    1235496
    """
    return construct(lambda: SqueezeNet(SQUEEZENET1_1, num_classes, in_channels), (in_channels, 224, 224), rng)

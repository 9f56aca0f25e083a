"""VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks", 2014. Names as torchvision's."""

from __future__ import annotations

from typing import Any

from fastcnn import functional
from fastcnn.layers import Conv2d, Dropout, Layer, Linear, MaxPool2d, ReLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct

__all__ = ["vgg16"]

# Output channels of the 3x3 convolutions; a 2x2 max pooling ends each row. Configuration D of the paper.
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

HIDDEN = 4096
FEATURE_SIZE = 7  # of a 224x224 image after five poolings


class VGG(Model):
    """Rows of 3x3 convolutions with a pooling after each, then three fully connected layers.

    Parameters
    ----------
    rows : tuple of tuple of int
        Output channels of the convolutions before each pooling.
    num_classes, in_channels : int
        Outputs, and channels of the 224x224 input.
    """

    def __init__(self, rows: tuple[tuple[int, ...], ...], num_classes: int, in_channels: int) -> None:
        features: list[Layer] = []
        channels = in_channels
        for row in rows:
            for out_channels in row:
                features += [Conv2d(channels, out_channels, 3, padding=1), ReLU()]
                channels = out_channels
            features.append(MaxPool2d(2))
        self.features = Sequential(*features)
        self.classifier = Sequential(
            Linear(channels * FEATURE_SIZE**2, HIDDEN),
            ReLU(),
            Dropout(),
            Linear(HIDDEN, HIDDEN),
            ReLU(),
            Dropout(),
            Linear(HIDDEN, num_classes),
        )

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, 224, 224) to (N, num_classes)."""
        return self.classifier(functional.flatten(self.features(x)))


def vgg16(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """VGG-16: thirteen convolutions, 138 million parameters (553 MB) with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the 224x224 input (other sizes do not fit the fully connected layers).
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 224, 224).

    Examples
    --------
    >>> sum(len(row) for row in VGG16)
    13
    """
    return construct(lambda: VGG(VGG16, num_classes, in_channels), (in_channels, 224, 224), rng)

"""Small networks that learn from scratch: 3x3 convolutions for small images, fully connected layers for rows.

After VGG (Simonyan and Zisserman, 2015), with batch normalisation (Ioffe and Szegedy, 2015). A smooth clip holds
rows within three deviations (Holzmüller et al., 2024). They have dropout of a tenth of the features and half of a wide
hidden layer (Srivastava et al., 2014). docs/defaults_rows.md tells how that was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastcnn._arguments import as_pair, as_share
from fastcnn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU, Tanh
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct

__all__ = ["is_image", "small_cnn", "small_network"]

_STEM_ABOVE = 32  # larger images are first halved by strided convolutions
_POOL_ABOVE = 4  # and then pooled down to this
_WIDTHS = (32, 64, 128)
_HIDDEN = 1024
_LEAST_HIDDEN = 64
_WEIGHTS = 1 << 22  # of the hidden layer, which is narrower for many features
_DROPPED_FEATURES, _DROPPED_HIDDEN = 0.1, 0.5
_FIRST_WEIGHTS = 3.0  # times those of He: features come in units of three deviations


def small_cnn(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int | tuple[int, int] = 32,
    *,
    dropout: float = 0.2,
    rng: RandomSource = 0,
) -> Model:
    """Two 3x3 convolutions and a pooling, repeated until the image is 4 pixels high or wide, and a linear layer.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    image_size : int or (int, int)
        Height and width of the input, 4 or more. Above 32, strided convolutions come first.
    dropout : float
        Before the last layer.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, height, width).

    Raises
    ------
    ValueError
        If the image is smaller than 4 pixels.

    Examples
    --------
    >>> sum(array.size for _, array in small_cnn().named_parameters())
    307946
    """
    height, width = as_pair(image_size, "small_cnn: image_size")
    dropout = as_share(dropout, "small_cnn: dropout")
    if min(height, width) < _POOL_ABOVE:
        raise ValueError(f"small_cnn: image_size={(height, width)}, expected at least {_POOL_ABOVE} pixels")

    def make() -> Model:
        layers: list[Layer] = []
        channels, rows, columns = in_channels, height, width
        while min(rows, columns) > _STEM_ABOVE:
            layers += _convolution(channels, _WIDTHS[0], stride=2)
            channels, rows, columns = _WIDTHS[0], -(-rows // 2), -(-columns // 2)
        for wide in (*_WIDTHS, _WIDTHS[-1]):
            layers += _convolution(channels, wide) + _convolution(wide, wide)
            channels = wide
            if min(rows, columns) > _POOL_ABOVE:
                layers.append(MaxPool2d(2))
                rows, columns = rows // 2, columns // 2
            if min(rows, columns) <= _POOL_ABOVE:
                break
        layers += [Flatten(), Dropout(dropout), Linear(channels * rows * columns, num_classes)]
        return Sequential(*layers)

    return construct(make, (in_channels, height, width), rng)


def is_image(shape: Sequence[int]) -> bool:
    """Whether inputs of a shape are images that `small_cnn` takes.

    Examples
    --------
    >>> is_image((3, 32, 32)), is_image((13,))
    (True, False)
    """
    return len(shape) == 3 and min(shape[1:]) >= _POOL_ABOVE


def small_network(input_shape: Sequence[int], num_classes: int, rng: RandomSource = 0) -> Model:
    """Return a network that suits small inputs of any shape.

    Parameters
    ----------
    input_shape : sequence of int
        (channels, height, width) gives a `small_cnn`; anything else, and images of less than 4 pixels, one hidden layer
        with dropout. It has 1024 units; above 4096 features fewer, down to 64. A tanh before it clips features softly;
        features are best standardised, and then divided by 3.
    num_classes : int
    rng : numpy.random.Generator, int or None

    Returns
    -------
    Model

    Examples
    --------
    >>> small_network((4,), 3)
    Sequential(
      (0): Flatten()
      (1): Tanh()
      (2): Dropout(p=0.1)
      (3): Linear(in_features=4, out_features=1024)
      (4): ReLU()
      (5): Dropout(p=0.5)
      (6): Linear(in_features=1024, out_features=3)
    )
    """
    shape = tuple(input_shape)
    if is_image(shape):
        return small_cnn(num_classes, shape[0], (shape[1], shape[2]), rng=rng)
    features = math.prod(shape)
    units = min(_HIDDEN, max(_LEAST_HIDDEN, _WEIGHTS // max(features, 1)))

    def make() -> Model:
        first = Linear(features, units, init="he_normal")
        first.weight = first.weight * _FIRST_WEIGHTS
        hidden = [Dropout(_DROPPED_FEATURES), first, ReLU(), Dropout(_DROPPED_HIDDEN)]
        return Sequential(Flatten(), Tanh(), *hidden, Linear(units, num_classes))

    return construct(make, shape, rng)


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> list[Layer]:
    return [
        Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        BatchNorm2d(out_channels),
        ReLU(),
    ]

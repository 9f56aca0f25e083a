"""LeNet-5 for 28x28 grey images: LeCun et al., "Gradient-Based Learning", 1998, with ReLU and max pooling."""

from __future__ import annotations

from fastcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct

__all__ = ["lenet"]


def lenet(num_classes: int = 10, in_channels: int = 1, *, rng: RandomSource = 0) -> Model:
    """LeNet-5: two convolutions, three fully connected layers, 61,706 parameters.

    Parameters
    ----------
    num_classes : int
        Outputs.
    in_channels : int
        Channels of the 28x28 input.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 28, 28).

    Examples
    --------
    >>> sum(array.size for _, array in lenet().named_parameters())
    61706
    """

    def make() -> Model:
        return Sequential(
            {
                "conv1": Conv2d(in_channels, 6, 5, padding=2),
                "relu1": ReLU(),
                "pool1": MaxPool2d(2),
                "conv2": Conv2d(6, 16, 5),
                "relu2": ReLU(),
                "pool2": MaxPool2d(2),
                "flatten": Flatten(),
                "fc1": Linear(16 * 5 * 5, 120),
                "relu3": ReLU(),
                "fc2": Linear(120, 84),
                "relu4": ReLU(),
                "fc3": Linear(84, num_classes),
            }
        )

    return construct(make, (in_channels, 28, 28), rng)

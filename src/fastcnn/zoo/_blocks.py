"""What the architectures share: convolutions with what follows them, squeeze-and-excitation, and their settings.

Names within the blocks are torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Layer, ReLU, Sigmoid
from fastcnn.sequential import Sequential

__all__ = ["MakeLayer", "MakeNorm", "SqueezeExcitation", "conv_norm"]

MakeLayer = Callable[[], Layer]
MakeNorm = Callable[[int], Layer]  # of a number of channels


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: MakeLayer | None = ReLU,
    norm: MakeNorm = BatchNorm2d,
) -> Sequential:
    """A convolution that keeps the size but for its stride, a normalisation, and an activation unless it is None.

    Examples
    --------
    >>> conv_norm(3, 8, stride=2)
    Sequential(
      (0): Conv2d(3, 8, kernel_size=(3, 3), stride=2, padding=1, bias=False)
      (1): BatchNorm2d(8, eps=1e-05)
      (2): ReLU()
    )
    """
    padding = kernel_size // 2
    conv = Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
    return Sequential(conv, norm(out_channels), *([] if activation is None else [activation()]))


class SqueezeExcitation(Layer):
    """Scale each channel by what two 1x1 convolutions make of the means: Hu et al., https://arxiv.org/abs/1709.01507.

    Parameters
    ----------
    channels, squeezed : int
        Channels of the input, and between the convolutions.
    activation, gate : function
        Make the layers after the first and after the second convolution.
    """

    def __init__(self, channels: int, squeezed: int, activation: MakeLayer = ReLU, gate: MakeLayer = Sigmoid) -> None:
        self.avgpool = GlobalAvgPool2d()
        self.fc1 = Conv2d(channels, squeezed, 1)
        self.fc2 = Conv2d(squeezed, channels, 1)
        self.activation = activation()
        self.scale_activation = gate()

    def forward(self, x: Any) -> Any:
        """Map (N, channels, H, W) to the same shape."""
        scale = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return x * self.scale_activation(scale)

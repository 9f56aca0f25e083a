"""RegNet: Radosavovic et al., "Designing Network Design Spaces", 2020. Names as torchvision's."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastcnn import functional
from fastcnn.layers import GlobalAvgPool2d, Layer, Linear, ReLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._blocks import SqueezeExcitation, conv_norm
from fastcnn.zoo._construct import construct

__all__ = ["regnet_y_400mf"]


class Variant(NamedTuple):
    """A member of the family."""

    widths: tuple[int, ...]  # of the stages
    depths: tuple[int, ...]
    group_width: int


Y_400MF = Variant(
    (48, 104, 208, 440), (1, 3, 6, 6), 8
)  # what the paper's formula gives for w_0=48, w_a=27.89, w_m=2.09
STEM_CHANNELS = 32
SQUEEZE = 4  # channels of a block's input to one of the squeezed ones


class Bottleneck(Layer):
    """1x1, grouped 3x3 and 1x1 convolutions with squeeze-and-excitation before the last, added to the input."""

    def __init__(self, in_channels: int, channels: int, stride: int, group_width: int) -> None:
        fits = stride == 1 and in_channels == channels
        self.proj = None if fits else conv_norm(in_channels, channels, 1, stride, activation=None)
        self.f = Sequential(
            {
                "a": conv_norm(in_channels, channels, 1),
                "b": conv_norm(channels, channels, 3, stride, channels // group_width),
                "se": SqueezeExcitation(channels, round(in_channels / SQUEEZE)),
                "c": conv_norm(channels, channels, 1, activation=None),
            }
        )
        self.activation = ReLU()

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
        return self.activation((x if self.proj is None else self.proj(x)) + self.f(x))


class RegNet(Model):
    """A strided 3x3 convolution, stages of bottleneck blocks that begin with a stride, one fully connected layer.

    Parameters
    ----------
    variant : Variant
        Widths and depths of the stages.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    """

    def __init__(self, variant: Variant, num_classes: int, in_channels: int) -> None:
        channels = STEM_CHANNELS
        self.stem = conv_norm(in_channels, channels, 3, 2)
        stages: dict[str, Layer] = {}
        for stage, (width, depth) in enumerate(zip(variant.widths, variant.depths, strict=True), start=1):
            blocks: dict[str, Layer] = {}
            for i in range(depth):
                blocks[f"block{stage}-{i}"] = Bottleneck(channels, width, 2 if i == 0 else 1, variant.group_width)
                channels = width
            stages[f"block{stage}"] = Sequential(blocks)
        self.trunk_output = Sequential(stages)
        self.avgpool = GlobalAvgPool2d()
        self.fc = Linear(channels, num_classes)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        return self.fc(functional.flatten(self.avgpool(self.trunk_output(self.stem(x)))))


def regnet_y_400mf(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """RegNetY-400MF: sixteen blocks, 4.3 million parameters with 1000 classes.

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
    >>> sum(array.size for _, array in regnet_y_400mf().named_parameters())
    4344144
    """
    return construct(lambda: RegNet(Y_400MF, num_classes, in_channels), (in_channels, 224, 224), rng)

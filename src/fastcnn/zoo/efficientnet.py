"""EfficientNet: Tan and Le, https://arxiv.org/abs/1905.11946, and version 2, https://arxiv.org/abs/2104.00298.

Names as torchvision's.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from fastcnn import functional
from fastcnn.layers import BatchNorm2d, Dropout, DropPath, GlobalAvgPool2d, Layer, Linear, SiLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._blocks import MakeNorm, SqueezeExcitation, conv_norm
from fastcnn.zoo._construct import construct, rising_shares

__all__ = ["efficientnet_b0", "efficientnet_v2_s"]


class Stage(NamedTuple):
    """Blocks of one shape."""

    is_fused: bool  # the depthwise convolution and the one before it are one
    expansion: int
    kernel_size: int
    stride: int
    channels: int
    blocks: int


class Variant(NamedTuple):
    """A member of the family."""

    stem: int  # channels
    stages: tuple[Stage, ...]
    norm: MakeNorm
    image_size: int


B0 = Variant(  # table 1 of the paper
    32,
    (
        Stage(False, 1, 3, 1, 16, 1),
        Stage(False, 6, 3, 2, 24, 2),
        Stage(False, 6, 5, 2, 40, 2),
        Stage(False, 6, 3, 2, 80, 3),
        Stage(False, 6, 5, 1, 112, 3),
        Stage(False, 6, 5, 2, 192, 4),
        Stage(False, 6, 3, 1, 320, 1),
    ),
    BatchNorm2d,
    224,
)
V2_S = Variant(  # table 4 of the paper on version 2
    24,
    (
        Stage(True, 1, 3, 1, 24, 2),
        Stage(True, 4, 3, 2, 48, 4),
        Stage(True, 4, 3, 2, 64, 4),
        Stage(False, 4, 3, 2, 128, 6),
        Stage(False, 6, 3, 1, 160, 9),
        Stage(False, 6, 3, 2, 256, 15),
    ),
    partial(BatchNorm2d, eps=1e-3),
    384,
)
HEAD_CHANNELS = 1280
DROPOUT = 0.2
SQUEEZE = 4  # channels before expansion to one of the squeezed ones


class MBConv(Layer):
    """1x1 convolution to more channels, depthwise, squeeze-and-excitation, 1x1 to few; plus the input if it fits.

    The fused form has one dense convolution in place of the first two, and no squeeze-and-excitation.
    """

    def __init__(self, in_channels: int, stage: Stage, stride: int, drop_path: float, norm: MakeNorm) -> None:
        hidden, size = in_channels * stage.expansion, stage.kernel_size
        conv = partial(conv_norm, activation=SiLU, norm=norm)
        last = conv_norm(hidden, stage.channels, 1, activation=None, norm=norm)
        steps: list[Layer]
        if stage.is_fused:
            steps = [conv(in_channels, hidden, size, stride), last]
            if stage.expansion == 1:
                steps = [conv(in_channels, stage.channels, size, stride)]
        else:
            steps = [] if stage.expansion == 1 else [conv(in_channels, hidden, 1)]
            squeeze = SqueezeExcitation(hidden, max(1, in_channels // SQUEEZE), SiLU)
            steps += [conv(hidden, hidden, size, stride, hidden), squeeze, last]
        self.block = Sequential(*steps)
        self.stochastic_depth = DropPath(drop_path)
        self.is_residual = stride == 1 and in_channels == stage.channels

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, stage.channels, H/stride, W/stride)."""
        y = self.block(x)
        return x + self.stochastic_depth(y) if self.is_residual else y


class EfficientNet(Model):
    """A strided 3x3 convolution, stages of `MBConv` blocks, a 1x1 convolution, one fully connected layer.

    Parameters
    ----------
    variant : Variant
        The table of stages.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    drop_path : float
        Share of the inputs that skip a block in training; it grows from 0 to this with depth.
    """

    def __init__(self, variant: Variant, num_classes: int, in_channels: int, drop_path: float) -> None:
        channels, norm, count = variant.stem, variant.norm, 0
        features: list[Layer] = [conv_norm(in_channels, channels, 3, 2, activation=SiLU, norm=norm)]
        total = sum(stage.blocks for stage in variant.stages)
        shares = rising_shares(drop_path, total, total)
        for stage in variant.stages:
            blocks = []
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                blocks.append(MBConv(channels, stage, stride, shares[count], norm))
                channels, count = stage.channels, count + 1
            features.append(Sequential(*blocks))
        features.append(conv_norm(channels, HEAD_CHANNELS, 1, activation=SiLU, norm=norm))
        self.features = Sequential(*features)
        self.avgpool = GlobalAvgPool2d()
        self.classifier = Sequential(Dropout(DROPOUT), Linear(HEAD_CHANNELS, num_classes))

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        return self.classifier(functional.flatten(self.avgpool(self.features(x))))


def build(variant: Variant, num_classes: int, in_channels: int, drop_path: float, rng: RandomSource) -> Model:
    """Build the member of the family that `variant` describes."""
    shape = (in_channels, variant.image_size, variant.image_size)
    return construct(lambda: EfficientNet(variant, num_classes, in_channels, drop_path), shape, rng)


def efficientnet_b0(
    num_classes: int = 1000, in_channels: int = 3, *, drop_path: float = 0.2, rng: RandomSource = 0
) -> Model:
    """EfficientNet-B0: sixteen blocks, 5.3 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    drop_path : float
        Share of the inputs that skip the last block in training (see `fastcnn.DropPath`); earlier blocks drop fewer.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 224, 224); other sizes work too.

    Examples
    --------
    >>> sum(array.size for _, array in efficientnet_b0().named_parameters())
    5288548
    """
    return build(B0, num_classes, in_channels, drop_path, rng)


def efficientnet_v2_s(
    num_classes: int = 1000, in_channels: int = 3, *, drop_path: float = 0.2, rng: RandomSource = 0
) -> Model:
    """EfficientNetV2-S: forty blocks, 21.5 million parameters with 1000 classes, 384x384 images.

    Parameters
    ----------
    num_classes, in_channels, drop_path, rng
        As for `efficientnet_b0`.

    Returns
    -------
    Model

    Examples
    --------
    >>> sum(array.size for _, array in efficientnet_v2_s().named_parameters())
    21458488
    """
    return build(V2_S, num_classes, in_channels, drop_path, rng)

"""MobileNetV4: Qin et al., https://arxiv.org/abs/2404.10518. Names as timm's."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastcnn import functional
from fastcnn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Layer, Linear, ReLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct

__all__ = ["mobilenet_v4_conv_small"]


class Plain(NamedTuple):
    """A convolution."""

    kernel_size: int
    stride: int
    channels: int


class Inverted(NamedTuple):
    """A universal inverted bottleneck; a kernel of 0 leaves its depthwise convolution out."""

    first: int  # kernel of the depthwise convolution before the expansion
    middle: int  # and after it
    stride: int
    expanded: int
    channels: int


STEM_CHANNELS = 32
CONV_SMALL: tuple[tuple[Plain | Inverted, ...], ...] = (  # table 11 of the paper
    (Plain(3, 2, 32), Plain(1, 1, 32)),
    (Plain(3, 2, 96), Plain(1, 1, 64)),
    (
        Inverted(5, 5, 2, 192, 96),
        *(Inverted(0, 3, 1, 192, 96),) * 4,
        Inverted(3, 0, 1, 384, 96),
    ),
    (
        Inverted(3, 3, 2, 576, 128),
        Inverted(5, 5, 1, 512, 128),
        Inverted(0, 5, 1, 512, 128),
        Inverted(0, 5, 1, 384, 128),
        Inverted(0, 3, 1, 512, 128),
        Inverted(0, 3, 1, 512, 128),
    ),
    (Plain(1, 1, 960),),
)
HEAD_CHANNELS = 1280


class ConvNorm(Layer):
    """A convolution, a normalisation, and ReLU where told; the normalisation is called `norm`."""

    def __init__(
        self, in_channels: int, row: Plain, *, groups: int = 1, activation: bool = True, norm: str = "bn"
    ) -> None:
        size = row.kernel_size
        self.conv = Conv2d(in_channels, row.channels, size, row.stride, size // 2, groups=groups, bias=False)
        setattr(self, norm, BatchNorm2d(row.channels))
        self.activation = ReLU() if activation else None

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, row.channels, H/stride, W/stride)."""
        for layer in self._children.values():
            x = layer(x)
        return x


class UniversalInvertedBottleneck(Layer):
    """A depthwise convolution, 1x1 to more channels, depthwise, 1x1 to few; plus the input if it fits."""

    def __init__(self, in_channels: int, row: Inverted) -> None:
        wide = row.expanded
        if row.first:
            stride = 1 if row.middle else row.stride
            first = Plain(row.first, stride, in_channels)
            self.dw_start = ConvNorm(in_channels, first, groups=in_channels, activation=False)
        self.pw_exp = ConvNorm(in_channels, Plain(1, 1, wide))
        if row.middle:
            self.dw_mid = ConvNorm(wide, Plain(row.middle, row.stride, wide), groups=wide)
        self.pw_proj = ConvNorm(wide, Plain(1, 1, row.channels), activation=False)
        self.is_residual = row.stride == 1 and in_channels == row.channels

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, row.channels, H/stride, W/stride)."""
        y = x
        for layer in self._children.values():
            y = layer(y)
        return x + y if self.is_residual else y


class MobileNetV4(Model):
    """A strided 3x3 convolution, blocks, global pooling, a 1x1 convolution, one fully connected layer.

    Parameters
    ----------
    table : tuple of tuple of Plain and Inverted
        Blocks of each stage.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    """

    def __init__(self, table: tuple[tuple[Plain | Inverted, ...], ...], num_classes: int, in_channels: int) -> None:
        channels = STEM_CHANNELS
        self.conv_stem = Conv2d(in_channels, channels, 3, 2, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.act1 = ReLU()
        stages = []
        for rows in table:
            blocks: list[Layer] = []
            for row in rows:
                if isinstance(row, Plain):
                    blocks.append(ConvNorm(channels, row, norm="bn1"))
                else:
                    blocks.append(UniversalInvertedBottleneck(channels, row))
                channels = row.channels
            stages.append(Sequential(*blocks))
        self.blocks = Sequential(*stages)
        self.global_pool = GlobalAvgPool2d()
        self.conv_head = Conv2d(channels, HEAD_CHANNELS, 1, bias=False)
        self.norm_head = BatchNorm2d(HEAD_CHANNELS)
        self.act2 = ReLU()
        self.classifier = Linear(HEAD_CHANNELS, num_classes)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        x = self.global_pool(self.blocks(self.act1(self.bn1(self.conv_stem(x)))))
        x = self.act2(self.norm_head(self.conv_head(x)))
        return self.classifier(functional.flatten(x))


def mobilenet_v4_conv_small(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> Model:
    """MobileNetV4-Conv-S: 3.8 million parameters with 1000 classes.

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
    >>> sum(array.size for _, array in mobilenet_v4_conv_small().named_parameters())
    3774024
    """
    return construct(lambda: MobileNetV4(CONV_SMALL, num_classes, in_channels), (in_channels, 224, 224), rng)

"""RepVGG: Ding et al., https://arxiv.org/abs/2101.03697. Names as timm's.

A block learns with three branches. After training one convolution takes their place (`RepVGG.reparameterize`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastcnn.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Layer, Linear, ReLU
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct

__all__ = ["repvgg_a0"]


class Variant(NamedTuple):
    """A member of the family."""

    stem: int  # channels
    widths: tuple[int, ...]  # of the stages
    depths: tuple[int, ...]


A0 = Variant(48, (48, 96, 192, 1280), (2, 4, 14, 1))  # table 2 of the paper


class ConvNorm(Layer):
    """A convolution that keeps the size but for its stride, and a normalisation."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int) -> None:
        self.conv = Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.bn = BatchNorm2d(channels)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
        return self.bn(self.conv(x))


class RepVGGBlock(Layer):
    """3x3 convolution, 1x1 convolution and the input itself where it fits, each normalised; their sum, then ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        self.is_residual = stride == 1 and in_channels == channels
        if self.is_residual:
            self.identity = BatchNorm2d(channels)
        self.conv_kxk = ConvNorm(in_channels, channels, 3, stride)
        self.conv_1x1 = ConvNorm(in_channels, channels, 1, stride)
        self.act = ReLU()
        self.is_plain = False

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
        if self.is_plain:
            return self.act(self.reparam_conv(x))
        y = self.conv_1x1(x) + self.conv_kxk(x)
        return self.act(self.identity(x) + y if self.is_residual else y)

    def reparameterize(self) -> None:
        """Put one convolution in the place of the branches."""
        if self.is_plain:
            return
        weight, bias = _weight_and_bias(self.conv_kxk.conv.weight, self.conv_kxk.bn)
        branches = [_weight_and_bias(self.conv_1x1.conv.weight, self.conv_1x1.bn)]
        channels, in_channels = weight.shape[:2]
        if self.is_residual:
            branches.append(_weight_and_bias(np.eye(channels)[:, :, None, None], self.identity))
        for centre, shift in branches:
            weight[:, :, 1:2, 1:2] += centre
            bias += shift
        conv = Conv2d(in_channels, channels, 3, self.conv_kxk.conv.stride, padding=1, rng=0)
        conv.weight, conv.bias = weight, bias
        self.reparam_conv = conv
        self.is_plain = True
        for name in ("conv_kxk", "conv_1x1", *(["identity"] if self.is_residual else [])):
            delattr(self, name)


def _weight_and_bias(weight: np.ndarray, norm: BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """A convolution without bias and the normalisation that follows it, as one convolution, in float64."""
    scale = norm.weight / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
    return weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class RepVGG(Model):
    """A strided block, stages of blocks that begin with a stride, global pooling, one fully connected layer.

    Parameters
    ----------
    variant : Variant
        Widths and depths.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    """

    def __init__(self, variant: Variant, num_classes: int, in_channels: int) -> None:
        channels = variant.stem
        self.stem = RepVGGBlock(in_channels, channels, 2)
        stages = []
        for width, depth in zip(variant.widths, variant.depths, strict=True):
            blocks = []
            for i in range(depth):
                blocks.append(RepVGGBlock(channels, width, 2 if i == 0 else 1))
                channels = width
            stages.append(Sequential(*blocks))
        self.stages = Sequential(*stages)
        self.head = Sequential(
            {"global_pool": GlobalAvgPool2d(), "flatten": Flatten(), "fc": Linear(channels, num_classes)}
        )

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        return self.head(self.stages(self.stem(x)))

    def reparameterize(self) -> RepVGG:
        """Put one 3x3 convolution in the place of each block's branches, as the last act of training.

        Outputs stay the same but for rounding. The plain network is faster, but learns less well.

        Returns
        -------
        RepVGG
            Itself. Its state dict has timm's names of re-parameterised networks.

        Examples
        --------
        >>> model = repvgg_a0().reparameterize()
        >>> model.stages[0][1].reparam_conv
        Conv2d(48, 48, kernel_size=(3, 3), padding=1)
        """
        for _, layer in list(self.named_layers()):
            if isinstance(layer, RepVGGBlock):
                layer.reparameterize()
        return self


def repvgg_a0(num_classes: int = 1000, in_channels: int = 3, *, rng: RandomSource = 0) -> RepVGG:
    """RepVGG-A0: 22 blocks, 9.1 million parameters with 1000 classes, 8.3 million once re-parameterised.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    RepVGG
        A `Model` with a method ``reparameterize()``, and ``input_shape`` (in_channels, 224, 224); other sizes work too.

    Examples
    --------
    >>> sum(array.size for _, array in repvgg_a0().named_parameters())
    9108968
    """
    return construct(lambda: RepVGG(A0, num_classes, in_channels), (in_channels, 224, 224), rng)

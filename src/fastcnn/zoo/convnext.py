"""ConvNeXt: Liu et al., https://arxiv.org/abs/2201.03545, and version 2, Woo et al., https://arxiv.org/abs/2301.00808.

Names as timm's. The small members have 1x1 convolutions where the others have linear layers of each pixel's channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastcnn import functional
from fastcnn.layers import GELU, Conv2d, DropPath, Flatten, GlobalAvgPool2d, Layer, LayerNorm, Linear, Parameter
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct, rising_shares
from fastcnn.zoo._tokens import Mlp, small_weights

__all__ = ["convnext_atto", "convnext_tiny", "convnextv2_atto"]


class Variant(NamedTuple):
    """A member of the family."""

    widths: tuple[int, ...]  # of the stages
    depths: tuple[int, ...]
    has_convolutions: bool  # in place of linear layers
    version: int


TINY = Variant((96, 192, 384, 768), (3, 3, 9, 3), False, 1)
ATTO = Variant((40, 80, 160, 320), (2, 2, 6, 2), True, 1)
V2_ATTO = Variant((40, 80, 160, 320), (2, 2, 6, 2), True, 2)
EXPANSION, EPS, FIRST_SCALE = 4, 1e-6, 1e-6
TINY_NUMBER = 1e-30  # so that nothing is divided by zero


class ChannelNorm(LayerNorm):
    """Normalise the channels of each pixel."""

    def forward(self, x: Any) -> Any:
        """Map (N, C, H, W) to the same shape."""
        return functional.permute(super().forward(functional.permute(x, (0, 2, 3, 1))), (0, 3, 1, 2))


class GlobalResponseNorm(Layer):
    """Scale each channel by its norm over the image, relative to the mean of all channels' norms.

    x + weight * x * |x| / mean of |x| + bias
    """

    def __init__(self, channels: int) -> None:
        self.weight = Parameter(np.zeros(channels))
        self.bias = Parameter(np.zeros(channels))

    def forward(self, x: Any) -> Any:
        """Map (N, C, H, W) to the same shape."""
        _, channels, height, width = x.shape
        squares = functional.global_avg_pool2d(x * x) * (height * width)
        # |x| is the square of `root`. Local responses have powers, and sums over channels: here over all of them.
        root = functional.local_response_norm(squares, 1, alpha=1.0, beta=0.375, k=TINY_NUMBER)
        window = 2 * channels - 1
        share = functional.local_response_norm(root, window, alpha=window / channels, beta=1.0, k=EPS)
        weight, bias = (functional.reshape(array, (-1, 1, 1)) for array in (self.weight, self.bias))
        return x + (x * (share * root) * weight + bias)


class ConvMlp(Layer):
    """Two 1x1 convolutions with GELU between them, in version 2 also `GlobalResponseNorm`."""

    def __init__(self, width: int, hidden: int, version: int) -> None:
        self.fc1 = Conv2d(width, hidden, 1)
        self.act = GELU()
        if version == 2:
            self.grn = GlobalResponseNorm(hidden)
        self.fc2 = Conv2d(hidden, width, 1)

    def forward(self, x: Any) -> Any:
        """Map (N, width, H, W) to the same shape."""
        for layer in self._children.values():
            x = layer(x)
        return x


class Block(Layer):
    """7x7 depthwise convolution, normalisation, two layers of each pixel's channels; plus the input."""

    def __init__(self, width: int, variant: Variant, drop_path: float) -> None:
        self.gamma = Parameter(np.full(width, FIRST_SCALE)) if variant.version == 1 else None
        self.conv_dw = Conv2d(width, width, 7, padding=3, groups=width)
        hidden = EXPANSION * width
        self.norm: Layer
        self.mlp: Layer
        if variant.has_convolutions:
            self.norm = ChannelNorm(width, EPS)
            self.mlp = ConvMlp(width, hidden, variant.version)
        else:
            self.norm = LayerNorm(width, EPS)
            self.mlp = Mlp(width, hidden)
        self.drop_path = DropPath(drop_path)
        self.has_convolutions = variant.has_convolutions

    def forward(self, x: Any) -> Any:
        """Map (N, width, H, W) to the same shape."""
        y = self.conv_dw(x)
        if self.has_convolutions:
            y = self.mlp(self.norm(y))
        else:
            y = functional.permute(self.mlp(self.norm(functional.permute(y, (0, 2, 3, 1)))), (0, 3, 1, 2))
        if self.gamma is not None:
            y = y * functional.reshape(self.gamma, (-1, 1, 1))
        return x + self.drop_path(y)


class Stage(Layer):
    """Blocks of one width; before them, but in the first stage, a normalisation and a strided convolution."""

    def __init__(self, in_channels: int, width: int, variant: Variant, drop_paths: list[float]) -> None:
        if in_channels != width:
            self.downsample = Sequential(ChannelNorm(in_channels, EPS), Conv2d(in_channels, width, 2, 2))
        self.blocks = Sequential(*(Block(width, variant, share) for share in drop_paths))

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, width, H/2, W/2), in the first stage to the same size."""
        for layer in self._children.values():
            x = layer(x)
        return x


class ConvNeXt(Model):
    """A convolution of 4x4 patches, four stages of blocks, global pooling, one fully connected layer.

    Parameters
    ----------
    variant : Variant
        Widths and depths.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    drop_path : float
        Share of the inputs that skip a block in training; it grows from 0 to this with depth.
    """

    def __init__(self, variant: Variant, num_classes: int, in_channels: int, drop_path: float) -> None:
        channels = variant.widths[0]
        self.stem = Sequential(Conv2d(in_channels, channels, 4, 4), ChannelNorm(channels, EPS))
        blocks, count, stages = sum(variant.depths), 0, []
        shares = rising_shares(drop_path, blocks, blocks - 1)
        for width, depth in zip(variant.widths, variant.depths, strict=True):
            stages.append(Stage(channels, width, variant, shares[count : count + depth]))
            channels, count = width, count + depth
        self.stages = Sequential(*stages)
        self.head = Sequential(
            {
                "global_pool": GlobalAvgPool2d(),
                "norm": ChannelNorm(channels, EPS),
                "flatten": Flatten(),
                "fc": Linear(channels, num_classes),
            }
        )
        small_weights(self)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        return self.head(self.stages(self.stem(x)))


def _build(variant: Variant, num_classes: int, in_channels: int, drop_path: float, rng: RandomSource) -> Model:
    return construct(lambda: ConvNeXt(variant, num_classes, in_channels, drop_path), (in_channels, 224, 224), rng)


def convnext_tiny(
    num_classes: int = 1000, in_channels: int = 3, *, drop_path: float = 0.0, rng: RandomSource = 0
) -> Model:
    """ConvNeXt-T: eighteen blocks, 28.6 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    drop_path : float
        Share of the inputs that skip the last block in training (see `fastcnn.DropPath`); earlier blocks drop fewer.
        The paper has 0.1.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 224, 224); other sizes from 32 on work too.

    Examples
    --------
    >>> sum(array.size for _, array in convnext_tiny().named_parameters())
    28589128
    """
    return _build(TINY, num_classes, in_channels, drop_path, rng)


def convnext_atto(
    num_classes: int = 1000, in_channels: int = 3, *, drop_path: float = 0.0, rng: RandomSource = 0
) -> Model:
    """ConvNeXt-Atto, timm's smallest member: twelve blocks, 3.7 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels, drop_path, rng
        As for `convnext_tiny`.

    Returns
    -------
    Model

    Examples
    --------
    >>> sum(array.size for _, array in convnext_atto().named_parameters())
    3695520
    """
    return _build(ATTO, num_classes, in_channels, drop_path, rng)


def convnextv2_atto(
    num_classes: int = 1000, in_channels: int = 3, *, drop_path: float = 0.0, rng: RandomSource = 0
) -> Model:
    """ConvNeXtV2-Atto: twelve blocks with global response normalisation, 3.7 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels, drop_path, rng
        As for `convnext_tiny`.

    Returns
    -------
    Model

    Examples
    --------
    >>> sum(array.size for _, array in convnextv2_atto().named_parameters())
    3708400
    """
    return _build(V2_ATTO, num_classes, in_channels, drop_path, rng)

"""Swin transformer: Liu et al., https://arxiv.org/abs/2103.14030. Names as torchvision's.

Tokens are the pixels of (N, H, W, width) values. Sizes that windows do not divide are padded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastcnn import functional
from fastcnn.layers import GELU, Buffer, Conv2d, DropPath, Layer, LayerNorm, Linear
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct, rising_shares
from fastcnn.zoo._tokens import embedding, small_weights

__all__ = ["swin_t"]


class Variant(NamedTuple):
    """A member of the family."""

    width: int  # of the first stage; each other has twice that of the one before it
    depths: tuple[int, ...]
    heads: tuple[int, ...]


T = Variant(96, (2, 2, 6, 2), (3, 6, 12, 24))
PATCH, WINDOW, EXPANSION = 4, 7, 4
TOKENS, OFFSETS = WINDOW**2, 2 * WINDOW - 1  # of a window; between its tokens, along an axis
MASKED = -100.0  # added to the score of two tokens that are neighbours only after a shift


def _relative_positions() -> np.ndarray:
    """The number of the offset between each two tokens of a window."""
    row, column = (axis.ravel() for axis in np.indices((WINDOW, WINDOW)))
    rows, columns = (axis[:, None] - axis + WINDOW - 1 for axis in (row, column))
    return (rows * OFFSETS + columns).ravel()


@lru_cache(maxsize=1)
def _chosen_positions() -> np.ndarray:
    """A row for each two tokens, which multiplied with the table of biases gives theirs."""
    chosen: np.ndarray = np.eye(OFFSETS**2, dtype=np.float32)[_relative_positions()]
    return chosen


@lru_cache(maxsize=16)
def _mask(height: int, width: int, shifts: tuple[int, int]) -> np.ndarray:
    """What is added to scores, (windows, 1, TOKENS, TOKENS): the tokens of a window see those of their part alone."""
    part = [np.zeros(size, int) for size in (height, width)]
    for axis, shift in enumerate(shifts):
        if shift:
            part[axis][-WINDOW:], part[axis][-shift:] = 1, 2
    parts = (3 * part[0][:, None] + part[1]).reshape(height // WINDOW, WINDOW, width // WINDOW, WINDOW)
    of_window = parts.transpose(0, 2, 1, 3).reshape(-1, 1, TOKENS)
    differs = of_window.swapaxes(1, 2) != of_window
    return np.where(differs, MASKED, 0.0)[:, None].astype(np.float32)


def _rolled(x: Any, shift: int, dim: int) -> Any:
    """The part from `shift` on, then the part before it."""
    size = x.shape[dim]
    shift %= size
    if not shift:
        return x
    return functional.concat([functional.narrow(x, dim, shift, size - shift), functional.narrow(x, dim, 0, shift)], dim)


class ShiftedWindowAttention(Layer):
    """Attention among the tokens of each window, which may be shifted, with a trained bias for each offset.

    Parameters
    ----------
    width, heads, shift : int
        Length of a token, number of heads, and by how many tokens windows are shifted.
    """

    def __init__(self, width: int, heads: int, shift: int) -> None:
        self.heads, self.shift = heads, shift
        self.relative_position_bias_table = embedding(OFFSETS**2, heads)
        self.relative_position_index = Buffer(_relative_positions())
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Any) -> Any:
        """Map (N, H, W, width) to the same shape."""
        _, rows, columns, channels = x.shape
        x = functional.pad(x, (0, 0, 0, -columns % WINDOW, 0, -rows % WINDOW))
        _, height, width, _ = x.shape
        shifts = (self.shift if height > WINDOW else 0), (self.shift if width > WINDOW else 0)
        x = _rolled(_rolled(x, shifts[0], 1), shifts[1], 2)
        x = functional.reshape(x, (-1, WINDOW, width // WINDOW, WINDOW * channels))
        x = functional.reshape(functional.permute(x, (0, 2, 1, 3)), (-1, TOKENS, channels))
        x = self.of_windows(x, _mask(height, width, shifts) if any(shifts) else None)
        x = functional.reshape(x, (-1, width // WINDOW, WINDOW, WINDOW * channels))
        x = functional.reshape(functional.permute(x, (0, 2, 1, 3)), (-1, height, width, channels))
        x = _rolled(_rolled(x, -shifts[0], 1), -shifts[1], 2)
        return functional.narrow(functional.narrow(x, 1, 0, rows), 2, 0, columns)

    def of_windows(self, x: Any, mask: np.ndarray | None) -> Any:
        """Map (N * windows, TOKENS, width) to the same shape."""
        channels, heads = x.shape[2], self.heads
        windows = 1 if mask is None else len(mask)
        bias = functional.matmul(_chosen_positions(), self.relative_position_bias_table)
        bias = functional.permute(functional.reshape(bias, (TOKENS, TOKENS, heads)), (2, 0, 1))
        if mask is not None:
            bias = functional.reshape(functional.add(bias, mask), (windows * heads, TOKENS, TOKENS))
        qkv = self.qkv(x)
        parts = []
        for i in range(3):
            part = functional.reshape(
                functional.narrow(qkv, 2, i * channels, channels), (-1, TOKENS, heads, channels // heads)
            )
            part = functional.permute(part, (0, 2, 1, 3))
            parts.append(functional.reshape(part, (-1, windows * heads, TOKENS, channels // heads)))
        y = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], bias)
        y = functional.reshape(y, (-1, heads, TOKENS, channels // heads))
        return self.proj(functional.reshape(functional.permute(y, (0, 2, 1, 3)), (-1, TOKENS, channels)))


class Block(Layer):
    """Attention in windows, then two linear layers, each of normalised tokens and added to them."""

    def __init__(self, width: int, heads: int, shift: int, drop_path: float) -> None:
        self.norm1 = LayerNorm(width)
        self.attn = ShiftedWindowAttention(width, heads, shift)
        self.stochastic_depth = DropPath(drop_path)
        self.norm2 = LayerNorm(width)
        hidden = EXPANSION * width
        self.mlp = Sequential({"0": Linear(width, hidden), "1": GELU(), "3": Linear(hidden, width)})

    def forward(self, x: Any) -> Any:
        """Map (N, H, W, width) to the same shape."""
        x = x + self.stochastic_depth(self.attn(self.norm1(x)))
        return x + self.stochastic_depth(self.mlp(self.norm2(x)))


class PatchMerging(Layer):
    """The tokens of 2x2 pixels become one, of twice the width."""

    def __init__(self, width: int) -> None:
        self.reduction = Linear(4 * width, 2 * width, bias=False)
        self.norm = LayerNorm(4 * width)

    def forward(self, x: Any) -> Any:
        """Map (N, H, W, width) to (N, H/2, W/2, 2 * width), sizes rounded up."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        _, height, width, channels = x.shape
        x = functional.permute(functional.reshape(x, (-1, 2, width, channels)), (0, 2, 1, 3))
        return self.reduction(self.norm(functional.reshape(x, (-1, height // 2, width // 2, 4 * channels))))


class ToTokens(Layer):
    """Channels become the last axis."""

    def forward(self, x: Any) -> Any:
        """Map (N, width, H, W) to (N, H, W, width)."""
        return functional.permute(x, (0, 2, 3, 1))


class SwinTransformer(Model):
    """A convolution of 4x4 patches, stages of blocks with merging between them, the mean of tokens, one linear layer.

    Parameters
    ----------
    variant : Variant
        Widths, depths and heads.
    num_classes, in_channels : int
        Outputs, and channels of the input.
    drop_path : float
        Share of the inputs that skip a branch in training; it grows from 0 to this with depth.
    """

    def __init__(self, variant: Variant, num_classes: int, in_channels: int, drop_path: float) -> None:
        width, count, blocks = variant.width, 0, sum(variant.depths)
        shares = rising_shares(drop_path, blocks, blocks - 1)
        stem = Sequential(Conv2d(in_channels, width, PATCH, PATCH), ToTokens(), LayerNorm(width))
        features: list[Layer] = [stem]
        for depth, heads in zip(variant.depths, variant.heads, strict=True):
            if len(features) > 1:
                features.append(PatchMerging(width))
                width *= 2
            shifts = [0 if i % 2 == 0 else WINDOW // 2 for i in range(depth)]
            part = zip(shifts, shares[count : count + depth], strict=True)
            features.append(Sequential(*(Block(width, heads, *each) for each in part)))
            count += depth
        self.features = Sequential(*features)
        self.norm = LayerNorm(width)
        self.head = Linear(width, num_classes)
        small_weights(self)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, num_classes)."""
        x = functional.permute(self.norm(self.features(x)), (0, 3, 1, 2))
        return self.head(functional.flatten(functional.global_avg_pool2d(x)))


def swin_t(num_classes: int = 1000, in_channels: int = 3, *, drop_path: float = 0.2, rng: RandomSource = 0) -> Model:
    """Swin-T: twelve blocks, windows of 7x7 tokens, 28.3 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    drop_path : float
        Share of the inputs that skip the last branches in training (see `fastcnn.DropPath`); earlier ones drop
        fewer.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, 224, 224); other sizes work too.

    Examples
    --------
    >>> sum(array.size for _, array in swin_t().named_parameters())
    28288354
    """
    return construct(lambda: SwinTransformer(T, num_classes, in_channels, drop_path), (in_channels, 224, 224), rng)

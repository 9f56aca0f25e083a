"""Vision transformers: Dosovitskiy et al., https://arxiv.org/abs/2010.11929. Names as timm's.

DeiT (Touvron et al., https://arxiv.org/abs/2012.12877) is the same network, trained in another way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastcnn import functional
from fastcnn._arguments import as_int
from fastcnn.layers import Conv2d, DropPath, Layer, LayerNorm, Linear
from fastcnn.layers.initial import RandomSource
from fastcnn.model import Model
from fastcnn.sequential import Sequential
from fastcnn.zoo._construct import construct, rising_shares
from fastcnn.zoo._tokens import Attention, Mlp, embedding, small_weights

__all__ = ["deit_tiny", "vit_base_patch16", "vit_small_patch16", "vit_tiny_patch16"]


class Size(NamedTuple):
    """A member of the family."""

    width: int  # length of a token
    heads: int


TINY, SMALL, BASE = Size(192, 3), Size(384, 6), Size(768, 12)
PATCH, DEPTH, EXPANSION = 16, 12, 4
EPS = 1e-6


class PatchEmbed(Layer):
    """A token of each patch of the image."""

    def __init__(self, in_channels: int, width: int) -> None:
        self.proj = Conv2d(in_channels, width, PATCH, PATCH)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, H, W) to (N, H/16 * W/16, width)."""
        x = self.proj(x)
        _, width, height, columns = x.shape
        return functional.permute(functional.reshape(x, (-1, width, height * columns)), (0, 2, 1))


class Block(Layer):
    """Attention, then two linear layers, each of normalised tokens and added to them."""

    def __init__(self, size: Size, drop_path: float) -> None:
        self.norm1 = LayerNorm(size.width, EPS)
        self.attn = Attention(size.width, size.heads)
        self.norm2 = LayerNorm(size.width, EPS)
        self.mlp = Mlp(size.width, EXPANSION * size.width)
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)

    def forward(self, x: Any) -> Any:
        """Map (N, L, width) to the same shape."""
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class VisionTransformer(Model):
    """Tokens of patches and one for the class, blocks, and one fully connected layer of the class's token.

    Parameters
    ----------
    size : Size
        Length of a token, and heads.
    num_classes, in_channels, image_size : int
        Outputs, channels of the input, and its height and width, a multiple of 16.
    drop_path : float
        Share of the inputs that skip a branch in training; it grows from 0 to this with depth.
    """

    def __init__(self, size: Size, num_classes: int, in_channels: int, image_size: int, drop_path: float) -> None:
        if as_int(image_size, "image_size", PATCH) % PATCH:
            raise ValueError(f"image_size={image_size}, expected a multiple of {PATCH}")
        patches = (image_size // PATCH) ** 2
        self.cls_token = embedding(1, 1, size.width)
        self.pos_embed = embedding(1, 1 + patches, size.width)
        self.patch_embed = PatchEmbed(in_channels, size.width)
        self.blocks = Sequential(*(Block(size, share) for share in rising_shares(drop_path, DEPTH, DEPTH - 1)))
        self.norm = LayerNorm(size.width, EPS)
        self.head = Linear(size.width, num_classes)
        small_weights(self)

    def forward(self, x: Any) -> Any:
        """Map (N, in_channels, image_size, image_size) to (N, num_classes)."""
        x = functional.pad(self.patch_embed(x), (0, 0, 1, 0))  # a place for the class's token
        x = x + functional.add(self.pos_embed, functional.pad(self.cls_token, (0, 0, 0, x.shape[1] - 1)))
        x = functional.narrow(self.blocks(x), 1, 0, 1)
        return self.head(functional.flatten(self.norm(x)))


def _build(
    size: Size, num_classes: int, in_channels: int, image_size: int, drop_path: float, rng: RandomSource
) -> Model:
    shape = (in_channels, image_size, image_size)
    return construct(lambda: VisionTransformer(size, num_classes, in_channels, image_size, drop_path), shape, rng)


def vit_tiny_patch16(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    image_size: int = 224,
    drop_path: float = 0.0,
    rng: RandomSource = 0,
) -> Model:
    """ViT-Ti/16: twelve blocks of tokens of 192 numbers, 5.7 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
        Outputs, and channels of the input.
    image_size : int
        Height and width of the input, a multiple of 16. The positions of patches belong to this size.
    drop_path : float
        Share of the inputs that skip the last branches in training (see `fastcnn.DropPath`); earlier ones drop
        fewer.
    rng : numpy.random.Generator, int or None
        Source of the first weights.

    Returns
    -------
    Model
        With ``input_shape`` (in_channels, image_size, image_size).

    Examples
    --------
    >>> sum(array.size for _, array in vit_tiny_patch16().named_parameters())
    5717416
    """
    return _build(TINY, num_classes, in_channels, image_size, drop_path, rng)


def vit_small_patch16(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    image_size: int = 224,
    drop_path: float = 0.0,
    rng: RandomSource = 0,
) -> Model:
    """ViT-S/16: twelve blocks of tokens of 384 numbers, 22.1 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels, image_size, drop_path, rng
        As for `vit_tiny_patch16`.

    Returns
    -------
    Model

    Examples
    --------
    >>> vit_small_patch16(image_size=96).pos_embed.shape
    (1, 37, 384)
    """
    return _build(SMALL, num_classes, in_channels, image_size, drop_path, rng)


def vit_base_patch16(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    image_size: int = 224,
    drop_path: float = 0.0,
    rng: RandomSource = 0,
) -> Model:
    """ViT-B/16: twelve blocks of tokens of 768 numbers, 86.6 million parameters with 1000 classes.

    Parameters
    ----------
    num_classes, in_channels, image_size, drop_path, rng
        As for `vit_tiny_patch16`.

    Returns
    -------
    Model

    Examples
    --------
    >>> vit_base_patch16(num_classes=10).head
    Linear(in_features=768, out_features=10)
    """
    return _build(BASE, num_classes, in_channels, image_size, drop_path, rng)


def deit_tiny(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    image_size: int = 224,
    drop_path: float = 0.1,
    rng: RandomSource = 0,
) -> Model:
    """DeiT-Ti: the network of `vit_tiny_patch16`, with the stochastic depth of its recipe.

    Parameters
    ----------
    num_classes, in_channels, image_size, drop_path, rng
        As for `vit_tiny_patch16`.

    Returns
    -------
    Model

    Examples
    --------
    >>> deit_tiny().blocks[-1].drop_path1
    DropPath(p=0.1)
    """
    return _build(TINY, num_classes, in_channels, image_size, drop_path, rng)

"""What the transformers share: attention of several heads, the two layers behind it, and their first weights.

Names are timm's and torchvision's, which have one matrix for queries, keys and values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import functional
from fastcnn.layers import GELU, Layer, Linear, Parameter
from fastcnn.layers.initial import generator_of

__all__ = ["Attention", "Mlp", "embedding", "small_weights"]

DEVIATION = 0.02  # of the first weights and embeddings


def embedding(*shape: int) -> Parameter:
    """First values of trained positions and tokens: normal with a small deviation."""
    return Parameter(DEVIATION * generator_of(None).standard_normal(shape, np.float32))


def small_weights(model: Layer) -> None:
    """Let the linear layers begin as transformers do: normal weights with a small deviation, and biases of zero."""
    generator = generator_of(None)
    for _, layer in model.named_layers():
        if isinstance(layer, Linear):
            layer.weight = DEVIATION * generator.standard_normal(layer.weight.shape, np.float32)
            if layer.bias is not None:
                layer.bias = np.zeros(layer.bias.shape)


class Attention(Layer):
    """Attention of several heads among the tokens of an input.

    Parameters
    ----------
    width, heads : int
        Length of a token, and number of heads, which divides it.
    """

    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Any) -> Any:
        """Map (N, L, width) to the same shape."""
        matrices = self.qkv.weight, self.qkv.bias, self.proj.weight, self.proj.bias
        return functional.multi_head_attention(x, x, x, self.heads, *matrices)


class Mlp(Layer):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        self.fc1 = Linear(width, hidden)
        self.act = GELU()
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Any) -> Any:
        """Map (..., width) to the same shape."""
        return self.fc2(self.act(self.fc1(x)))

"""Attention with the projections of several heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import functional
from fastcnn._arguments import as_flag
from fastcnn.layers.base import Layer, Parameter
from fastcnn.layers.initial import Initialiser, RandomSource, first_weights, generator_of
from fastcnn.layers.settings import check_positive
from fastcnn.layers.weighted import Linear

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Layer):
    """Attention of several heads (Vaswani and others, Attention is all you need, 2017).

    Parameters
    ----------
    embed_dim : int
        Channels of a token, of the results too.
    num_heads : int
        A divisor of `embed_dim`.
    bias : bool
        Whether the projections add learned numbers.
    batch_first : bool
        True: inputs are (N, L, E). PyTorch's other order is not supported.
    init : str or function, optional
        Distribution of the first weights of the projection to queries, keys and values, as for `Conv2d`; by default
        "glorot_uniform". Its bias begins as zeros, and so does that of the last projection.
    rng : numpy.random.Generator or int, optional
        Source of the first weights.

    Attributes
    ----------
    in_proj_weight : ndarray (3 * embed_dim, embed_dim), float32
    in_proj_bias : ndarray (3 * embed_dim,), float32, or None
    out_proj : Linear

    Raises
    ------
    ValueError
        If a size is not a positive integer, num_heads does not divide embed_dim, or batch_first is False.

    Examples
    --------
    >>> layer = MultiheadAttention(8, 2)
    >>> layer
    MultiheadAttention(
      8, num_heads=2
      (out_proj): Linear(in_features=8, out_features=8)
    )
    >>> layer(np.zeros((1, 5, 8), np.float32)).shape
    (1, 5, 8)
    """

    in_proj_weight: np.ndarray
    in_proj_bias: np.ndarray | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        bias: bool = True,
        batch_first: bool = True,
        *,
        init: Initialiser = None,
        rng: RandomSource = None,
    ) -> None:
        check_positive("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: num_heads={num_heads}, expected a divisor of embed_dim={embed_dim}")
        has_bias = bool(as_flag(bias, "MultiheadAttention: bias"))
        if batch_first is not True:
            raise ValueError(f"MultiheadAttention: batch_first={batch_first!r}, expected True: inputs are (N, L, E)")
        self.num_heads = int(num_heads)
        generator = generator_of(rng)
        shape = (3 * embed_dim, embed_dim)
        self.in_proj_weight = Parameter(first_weights(init or "glorot_uniform", generator, shape))
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim)) if has_bias else None
        self.out_proj = Linear(embed_dim, embed_dim, has_bias, rng=generator)
        if has_bias:
            self.out_proj.bias = np.zeros(embed_dim)

    def forward(self, query: Any, key: Any = None, value: Any = None, attn_mask: Any = None) -> Any:
        """Attend from queries to keys and values.

        Parameters
        ----------
        query : (N, L, embed_dim) array or Symbol
        key : (N, S, embed_dim) array or Symbol, optional
            The query by default: self-attention.
        value : (N, S, embed_dim) array or Symbol, optional
            The key by default.
        attn_mask : array or Symbol, optional
            As in `fastcnn.functional.multi_head_attention`.

        Returns
        -------
        (N, L, embed_dim) ndarray or Symbol
        """
        key = query if key is None else key
        return functional.multi_head_attention(
            query,
            key,
            key if value is None else value,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.out_proj.weight,
            self.out_proj.bias,
            attn_mask,
        )

    def extra_repr(self) -> str:
        text = f"{self.in_proj_weight.shape[1]}, num_heads={self.num_heads}"
        return text + (", bias=False" if self.in_proj_bias is None else "")

"""Layers with parameters: convolution, fully connected, batch normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastcnn import functional
from fastcnn._arguments import as_flag, as_pair, as_share
from fastcnn.layers.base import Buffer, Layer, Parameter
from fastcnn.layers.initial import Initialiser, RandomSource, first_weights, generator_of, uniform
from fastcnn.layers.settings import Padding, Pair, check_positive

__all__ = ["BatchNorm2d", "Conv2d", "Linear"]


class BatchNorm2d(Layer):
    """Normalise each channel with running mean and variance.

    ``(x - running_mean) / sqrt(running_var + eps) * weight + bias``: Ioffe and Szegedy, "Batch
    Normalization", 2015. In training, mean and variance are those of the batch unless the layer is frozen. The running
    statistics then follow: ``running += momentum * (batch - running)``, with the unbiased variance.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
        Number that is added to the variance; TensorFlow's models use 1e-3.
    momentum : float
        Share of a new batch in the running statistics, from 0 to 1.

    Attributes
    ----------
    weight, bias, running_mean, running_var : ndarray (num_features,), float32
        Begin as ones, zeros, zeros and ones. The running statistics are buffers.

    Examples
    --------
    >>> layer = BatchNorm2d(1, eps=0.0)
    >>> layer.running_mean, layer.running_var = [2.0], [4.0]
    >>> layer(np.array([[[[6.0]]]])).item()
    2.0
    """

    weight: np.ndarray
    bias: np.ndarray
    running_mean: np.ndarray
    running_var: np.ndarray

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        check_positive("BatchNorm2d", num_features=num_features)
        self.eps, self.momentum = eps, as_share(momentum, "BatchNorm2d: momentum")
        self.weight = Parameter(np.ones(num_features))
        self.bias = Parameter(np.zeros(num_features))
        self.running_mean = Buffer(np.zeros(num_features))
        self.running_var = Buffer(np.ones(num_features))

    def forward(self, x: Any) -> Any:
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


class Conv2d(Layer):
    """Two-dimensional convolution (cross-correlation) with learned filters.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input, and filters.
    kernel_size : int or pair of int
        Height and width of a filter.
    stride : int or pair of int
        Step between windows.
    padding : int, sequence of 2 or 4 int, "same" or "valid"
        As in `fastcnn.functional.conv2d`.
    dilation : int or pair of int
        Step between the taps of a window.
    groups : int
        Number of groups of channels that do not mix; must divide both numbers of channels.
    bias : bool
        Whether each filter adds a learned number.
    algorithm : str
        "auto", or a kernel by name; see `fastcnn.functional.conv2d`.
    init : str or function, optional
        Distribution of the first weights: "he_normal", "he_uniform", "glorot_normal", "glorot_uniform" (see
        `fastcnn.layers.initial`), or a function of a generator and a shape. The default is PyTorch's: uniform within
        1/sqrt(in_channels/groups * kernel height * width). Biases always use it.
    rng : numpy.random.Generator or int, optional
        Source of the first weights.

    Attributes
    ----------
    weight : ndarray (out_channels, in_channels/groups, kernel height, kernel width), float32
    bias : ndarray (out_channels,), float32, or None

    Raises
    ------
    ValueError
        If a size is not a positive integer, or groups does not divide the channels.

    Examples
    --------
    >>> layer = Conv2d(3, 16, 3, stride=2, padding=1)
    >>> layer
    Conv2d(3, 16, kernel_size=(3, 3), stride=2, padding=1)
    >>> layer(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 16, 16, 16)
    """

    weight: np.ndarray
    bias: np.ndarray | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        algorithm: str = "auto",
        init: Initialiser = None,
        rng: RandomSource = None,
    ) -> None:
        check_positive("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"Conv2d: {name}={channels}, expected a multiple of groups={groups}")
        has_bias = as_flag(bias, "Conv2d: bias")
        self.kernel_size = as_pair(kernel_size, "Conv2d: kernel_size")
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.algorithm = algorithm
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        fan_in = math.prod(shape[1:])
        generator = generator_of(rng)
        self.weight = Parameter(first_weights(init, generator, shape))
        self.bias = Parameter(uniform(generator, shape[:1], fan_in)) if has_bias else None

    def forward(self, x: Any) -> Any:
        return functional.conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            algorithm=self.algorithm,
        )

    def extra_repr(self) -> str:
        text = f"{self.weight.shape[1] * self.groups}, {self.weight.shape[0]}, kernel_size={self.kernel_size}"
        defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "algorithm": "auto"}
        for name, default in defaults.items():
            if (value := getattr(self, name)) != default:
                text += f", {name}={value!r}"
        return text + (", bias=False" if self.bias is None else "")


class Linear(Layer):
    """Fully connected layer: ``x @ weight.T + bias``.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the last axis of input and output.
    bias : bool
        Whether each output adds a learned number.
    init : str or function, optional
        Distribution of the first weights, as for `Conv2d`; by default uniform within 1/sqrt(in_features).
    rng : numpy.random.Generator or int, optional
        Source of the first weights.

    Attributes
    ----------
    weight : ndarray (out_features, in_features), float32
    bias : ndarray (out_features,), float32, or None

    Examples
    --------
    >>> layer = Linear(2, 1)
    >>> layer.weight, layer.bias = [[1, 10]], [0.5]
    >>> layer(np.array([[3.0, 4.0]]))
    array([[43.5]])
    """

    weight: np.ndarray
    bias: np.ndarray | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: Initialiser = None,
        rng: RandomSource = None,
    ) -> None:
        check_positive("Linear", in_features=in_features, out_features=out_features)
        generator = generator_of(rng)
        self.weight = Parameter(first_weights(init, generator, (out_features, in_features)))
        has_bias = as_flag(bias, "Linear: bias")
        self.bias = Parameter(uniform(generator, (out_features,), in_features)) if has_bias else None

    def forward(self, x: Any) -> Any:
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        text = f"in_features={in_features}, out_features={out_features}"
        return text + (", bias=False" if self.bias is None else "")

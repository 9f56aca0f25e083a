"""Elementwise activations and softmax, without parameters."""

from __future__ import annotations

from typing import Any

from fastcnn import functional
from fastcnn._arguments import as_choice
from fastcnn.layers.base import Layer

__all__ = ["GELU", "HardSigmoid", "HardSwish", "LeakyReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax", "Tanh"]


class GELU(Layer):
    """``x`` times the share of a normal variable below ``x``: Hendrycks and Gimpel, 2016.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        As in `fastcnn.functional.gelu`.

    Examples
    --------
    >>> import numpy as np
    >>> GELU()(np.array([0.0, 100.0]))
    array([  0., 100.])
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = as_choice(approximate, "GELU: approximate", ("none", "tanh"))

    def forward(self, x: Any) -> Any:
        return functional.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class HardSigmoid(Layer):
    """``clip(x / 6 + 1 / 2, 0, 1)``: PyTorch's Hardsigmoid.

    Examples
    --------
    >>> import numpy as np
    >>> HardSigmoid()(np.array([-4.0, 0.0, 3.0]))
    array([0. , 0.5, 1. ])
    """

    def forward(self, x: Any) -> Any:
        return functional.hardsigmoid(x)


class HardSwish(Layer):
    """``x * clip(x + 3, 0, 6) / 6``: Howard et al., "Searching for MobileNetV3", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> HardSwish()(np.array([-4.0, 0.0, 3.0]))
    array([-0.,  0.,  3.])
    """

    def forward(self, x: Any) -> Any:
        return functional.hardswish(x)


class LeakyReLU(Layer):
    """Keep positive values and multiply the others by `negative_slope`.

    Parameters
    ----------
    negative_slope : float
        Factor of negative values.

    Examples
    --------
    >>> import numpy as np
    >>> LeakyReLU(0.5)(np.array([-1.0, 2.0]))
    array([-0.5,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        return functional.leaky_relu(x, negative_slope=self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ReLU(Layer):
    """Keep positive values and replace the others by zero.

    Examples
    --------
    >>> import numpy as np
    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def forward(self, x: Any) -> Any:
        return functional.relu(x)


class ReLU6(Layer):
    """Clip values to 0…6.

    Examples
    --------
    >>> import numpy as np
    >>> ReLU6()(np.array([-1.0, 2.0, 8.0]))
    array([0., 2., 6.])
    """

    def forward(self, x: Any) -> Any:
        return functional.relu6(x)


class SiLU(Layer):
    """``x * sigmoid(x)``, also called Swish.

    Examples
    --------
    >>> import numpy as np
    >>> SiLU()(np.array([0.0]))
    array([0.])
    """

    def forward(self, x: Any) -> Any:
        return functional.silu(x)


class Sigmoid(Layer):
    """``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> import numpy as np
    >>> Sigmoid()(np.array([0.0]))
    array([0.5])
    """

    def forward(self, x: Any) -> Any:
        return functional.sigmoid(x)


class Softmax(Layer):
    """Turn scores into probabilities that add up to 1 along `dim`.

    Parameters
    ----------
    dim : int
        The axis.

    Examples
    --------
    >>> import numpy as np
    >>> Softmax()(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Any:
        return functional.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Tanh(Layer):
    """Hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np
    >>> Tanh()(np.array([0.0]))
    array([0.])
    """

    def forward(self, x: Any) -> Any:
        return functional.tanh(x)

"""The error function, GELU, and their gradients in plain float64 NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcnn.reference.base import Array, as_real, ieee

# Numerators and denominators from the Cephes library, ndtr.c (Moshier): of erf(x) / x up to 1, in x^2; and of erfc(x)
# exp(x^2) from 1 to 8 and from 8 on, in x.
_ERF = (
    (
        9.60497373987051638749e0,
        9.00260197203842689217e1,
        2.23200534594684319226e3,
        7.00332514112805075473e3,
        5.55923013010394962768e4,
    ),
    (
        1.0,
        3.35617141647503099647e1,
        5.21357949780152679795e2,
        4.59432382970980127987e3,
        2.26290000613890934246e4,
        4.92673942608635921086e4,
    ),
)
_ERFC = (
    (
        2.46196981473530512524e-10,
        5.64189564831068821977e-1,
        7.46321056442269912687e0,
        4.86371970985681366614e1,
        1.96520832956077098242e2,
        5.26445194995477358631e2,
        9.34528527171957607540e2,
        1.02755188689515710272e3,
        5.57535335369399327526e2,
    ),
    (
        1.0,
        1.32281951154744992508e1,
        8.67072140885989742329e1,
        3.54937778887819891062e2,
        9.75708501743205489753e2,
        1.82390916687909736289e3,
        2.24633760818710981792e3,
        1.65666309194161350182e3,
        5.57535340817727675546e2,
    ),
)
_FAR_ERFC = (
    (
        5.64189583547755073984e-1,
        1.27536670759978104416e0,
        5.01905042251180477414e0,
        6.16021097993053585195e0,
        7.40974269950448939160e0,
        2.97886665372100240670e0,
    ),
    (
        1.0,
        2.26052863220117276590e0,
        9.39603524938001434673e0,
        1.20489539808096656605e1,
        1.70814450747565897222e1,
        9.60896809063285878198e0,
        3.36907645100081516050e0,
    ),
)
_ROOT = float(np.sqrt(2 / np.pi))


def _ratio(parts: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    return np.asarray(np.polyval(parts[0], x) / np.polyval(parts[1], x))


def _erfc(size: Array) -> Array:
    """1 - erf of numbers >= 1, with all digits."""
    near = np.minimum(size, 8.0)
    far = np.clip(size, 8.0, 1e3)  # exp is zero there
    return np.asarray(np.exp(-size * size)) * np.where(size < 8.0, _ratio(_ERFC, near), _ratio(_FAR_ERFC, far))


@ieee
def erf(x: npt.ArrayLike) -> Array:
    """The error function: 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> erf([0.0, 0.5, -3.0]).round(6)
    array([ 0.      ,  0.5205  , -0.999978])
    """
    x = as_real(x)
    size = np.abs(x)
    small = np.minimum(size, 1.0)
    inner = np.copysign(small * _ratio(_ERF, small * small), x)
    outer = np.copysign(1.0 - _erfc(np.maximum(size, 1.0)), x)
    return np.where(size < 1.0, inner, np.where(np.isnan(x), x, outer))


def _normal(x: Array) -> Array:
    """The share of a normal variable below x, with all digits where it is small."""
    size = np.abs(x) / np.sqrt(2.0)
    outer = _erfc(np.maximum(size, 1.0)) / 2
    below = np.where(size < 1.0, (1.0 - np.asarray(erf(np.minimum(size, 1.0)))) / 2, outer)
    return np.where(np.isnan(x), x, np.where(x < 0, below, 1.0 - below))


@ieee
def gelu(x: npt.ArrayLike, approximate: str = "none") -> Array:
    """y = x * P(x), with P the share of a normal variable below x (Hendrycks and Gimpel, 2016).

    The form "tanh" takes x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))). At -inf both are inf * 0, NaN.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    approximate : {"none", "tanh"}

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> gelu([0.0, 1.0]).round(6), gelu(1.0, "tanh").round(6)
    (array([0.      , 0.841345]), np.float64(0.841192))
    """
    x = as_real(x)
    return x * (_normal(x) if approximate == "none" else _tanh_share(x))


def _tanh_share(x: Array) -> Array:
    """(1 + tanh(z)) / 2 = sigmoid(2 z), which has all digits where it is small."""
    z = 2 * _ROOT * (x + 0.044715 * x**3)
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, 1.0) / (1.0 + e)


@ieee
def gelu_grad(grad: npt.ArrayLike, x: npt.ArrayLike, approximate: str = "none") -> Array:
    """Gradient of `gelu`: grad * (P(x) + x * P'(x)).

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    x : array_like of grad's shape
        The input.
    approximate : {"none", "tanh"}

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> gelu_grad([1.0, 1.0], [0.0, 1.0]).round(6)
    array([0.5     , 1.083315])
    """
    grad, x = as_real(grad), as_real(x)
    if approximate == "none":
        density: Array = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        return grad * (_normal(x) + x * density)
    share = _tanh_share(x)
    return grad * (share + x * (share * (1.0 - share) * 2 * _ROOT * (1.0 + 3 * 0.044715 * x * x)))


@ieee
def erf_grad(grad: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    """Gradient of `erf`: grad * 2 / sqrt(pi) * exp(-x^2).

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    x : array_like of grad's shape
        The input.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> erf_grad([1.0], [0.0]).round(6)
    array([1.128379])
    """
    x = as_real(x)
    density: Array = np.exp(-x * x) / np.sqrt(np.pi)
    return as_real(grad) * 2 * density

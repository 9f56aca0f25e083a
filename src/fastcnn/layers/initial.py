"""The first weights of layers: random generators and distributions.

The distributions are those of torch.nn.init under other names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TypeAlias

import numpy as np

from fastcnn._arguments import as_generator, as_seed

__all__ = [
    "Initialiser",
    "RandomSource",
    "first_weights",
    "generator_of",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "manual_seed",
    "seeded",
    "uniform",
]

# The types are strings, so that numpy.random is imported only where first weights are drawn.
RandomSource: TypeAlias = "np.random.Generator | int | None"
# A name in _INITIALISERS, or a function from a generator and a shape to an array; None is PyTorch's default.
Initialiser: TypeAlias = "str | Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] | None"

# The seed of layers without an ``rng``, and a counter of the generators made from it. Each layer has its own generator.
# A shared one has a lock, which a forked process could find held for ever.
_default: tuple[int, Iterator[int]] = (0, count())
_scoped_rng: ContextVar[np.random.Generator | None] = ContextVar("_scoped_rng", default=None)


def manual_seed(seed: int) -> None:
    """Restart the sequence of generators that layers without an ``rng`` draw their first weights from.

    Parameters
    ----------
    seed : int
        The seed is 0 at import, so that a script builds the same weights on every run.

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> manual_seed(1)
    >>> first = Linear(3, 2).weight
    >>> manual_seed(1)
    >>> bool((Linear(3, 2).weight == first).all())
    True
    """
    global _default
    _default = as_seed(seed, "manual_seed: seed"), count()


@contextmanager
def seeded(rng: RandomSource) -> Iterator[np.random.Generator]:
    """Context in which layers without an ``rng`` of their own draw from `rng`.

    Parameters
    ----------
    rng : numpy.random.Generator, int or None
        A generator, the seed of a new one, or None for the next default generator.

    Yields
    ------
    numpy.random.Generator
        The generator in use.

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> with seeded(7):
    ...     a = Linear(2, 2)
    >>> bool((a.weight == Linear(2, 2, rng=7).weight).all())
    True
    """
    token = _scoped_rng.set(generator_of(rng))
    try:
        yield generator_of(None)
    finally:
        _scoped_rng.reset(token)


def generator_of(rng: RandomSource) -> np.random.Generator:
    """Return the generator for the `rng` argument of a layer."""
    if rng is not None:
        return as_generator(rng, "rng", "an integer >= 0, a numpy.random.Generator or None")
    if (scoped := _scoped_rng.get()) is not None:
        return scoped
    seed, number = _default
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(next(number),)))


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: float) -> np.ndarray:
    """Draw from (-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default, He et al. 2015 with a = sqrt(5)."""
    bound = 1 / math.sqrt(fan_in)
    values = rng.random(shape, dtype=np.float32)
    values *= 2 * bound
    values -= bound
    return values


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from a normal distribution of variance 2 / fan_in, which suits ReLU.

    He et al., "Delving Deep into Rectifiers", 2015; PyTorch's ``kaiming_normal_(weight, nonlinearity="relu")``.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        Outputs, inputs of a group, and height and width of the filters.

    Returns
    -------
    ndarray, float32

    Examples
    --------
    >>> round(float(he_normal(np.random.default_rng(0), (64, 50, 3, 3)).std() ** 2 * 50 * 9), 1)
    2.0
    """
    return _normal(rng, shape, math.sqrt(2 / _fans(shape)[0]))


def he_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw uniformly from within sqrt(6 / fan_in); parameters as for `he_normal`. PyTorch's ``kaiming_uniform_``.

    Examples
    --------
    >>> bool(abs(he_uniform(np.random.default_rng(0), (8, 6))).max() <= 1)
    True
    """
    return _uniform(rng, shape, math.sqrt(6 / _fans(shape)[0]))


def glorot_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from a normal distribution of variance 2 / (fan_in + fan_out), which suits tanh and sigmoid.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010; PyTorch's
    ``xavier_normal_``. Parameters as for `he_normal`.

    Examples
    --------
    >>> round(float(glorot_normal(np.random.default_rng(0), (200, 300)).std() ** 2 * 500), 1)
    2.0
    """
    return _normal(rng, shape, math.sqrt(2 / sum(_fans(shape))))


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw uniformly from within sqrt(6 / (fan_in + fan_out)); parameters as for `he_normal`.

    PyTorch's ``xavier_uniform_``.

    Examples
    --------
    >>> bool(abs(glorot_uniform(np.random.default_rng(0), (3, 3))).max() <= 1)
    True
    """
    return _uniform(rng, shape, math.sqrt(6 / sum(_fans(shape))))


_INITIALISERS = {f.__name__: f for f in (he_normal, he_uniform, glorot_normal, glorot_uniform)}


def first_weights(init: Initialiser, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a layer's first weights from `init`, or from PyTorch's default.

    Raises
    ------
    ValueError
        If `init` is not the name of an initialiser, or gives another shape.
    TypeError
        If `init` is neither a name nor a function.
    """
    if init is None:
        return uniform(rng, shape, _fans(shape)[0])
    if isinstance(init, str):
        if init not in _INITIALISERS:
            raise ValueError(f"init={init!r}, expected one of {', '.join(_INITIALISERS)}")
        return _INITIALISERS[init](rng, shape)
    if not callable(init):
        raise TypeError(f"init={init!r}, expected a name or a function of a generator and a shape")
    values = np.asarray(init(rng, shape))
    if values.shape != shape:
        raise ValueError(f"init: gave an array of shape {values.shape}, expected {shape}")
    return values


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the inputs of an output and the outputs of an input, as PyTorch counts them."""
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


def _normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    return deviation * rng.standard_normal(shape, np.float32)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> np.ndarray:
    return uniform(rng, shape, 1 / bound**2)  # `uniform` draws from within 1/sqrt(fan_in)

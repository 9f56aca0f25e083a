"""Where a layer's first weights come from: the random generators, and the distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias, cast

import numpy as np

__all__ = ["RandomSource", "generator_of", "manual_seed", "seeded", "uniform"]

# A string, as below nothing of numpy.random is touched before it is needed: it is slow to import.
RandomSource: TypeAlias = "np.random.Generator | int | None"

_default_rng: np.random.Generator | None = None  # seed 0 at first use
_scoped_rng: ContextVar[np.random.Generator | None] = ContextVar("_scoped_rng", default=None)


def manual_seed(seed: int) -> None:
    """Restart the generator that layers without an ``rng`` draw their first weights from.

    Parameters
    ----------
    seed : int
        At import the seed is 0, so that a script builds the same weights on every run.

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> manual_seed(1)
    >>> first = Linear(3, 2).weight
    >>> manual_seed(1)
    >>> bool((Linear(3, 2).weight == first).all())
    True
    """
    global _default_rng
    _default_rng = np.random.default_rng(seed)


@contextmanager
def seeded(rng: RandomSource) -> Iterator[np.random.Generator]:
    """Let the layers built inside the block, without an ``rng`` of their own, draw from `rng`.

    Parameters
    ----------
    rng : numpy.random.Generator, int or None
        A generator, the seed of a new one, or None for the one already in use.

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
    if rng is not None:
        return np.random.default_rng(rng)
    if (scoped := _scoped_rng.get()) is not None:
        return scoped
    if _default_rng is None:
        manual_seed(0)
    return cast("np.random.Generator", _default_rng)


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """Draw from (-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default, He et al. 2015 with a = sqrt(5)."""
    bound = 1 / math.sqrt(fan_in)
    values = rng.random(shape, dtype=np.float32)
    values *= 2 * bound
    values -= bound
    return values

"""Ranges of values: a histogram that grows with what it sees, and the part of it that 8 bits stand for.

- minmax: all values.
- percentile: all but the farthest ones.
- mse: the range with the least squared error, of rounding and of clipping.
- entropy: the range that keeps the distribution (Kullback-Leibler divergence), as TensorRT has made usual.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["METHODS", "Histogram", "clipped_share", "range_of", "scale_and_zero"]

METHODS = ("minmax", "percentile", "entropy", "mse")
BINS = 2048  # on each side of zero
LEVELS = 256
# Candidates for the end of a range, as shares of the farthest value.
SHARES = np.geomspace(1.0, 0.02, 101)


class Histogram:
    """How often values occur, in bins whose width doubles when a value lies outside.

    Attributes
    ----------
    low, high : float
        The least and the largest value; 0 belongs to every range.
    width : float
        Of a bin.
    counts : ndarray (2 * BINS,), int64
        Bin `BINS` begins at 0.

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.add(np.array([-1.0, 0.5, 3.0]))
    >>> histogram.low, histogram.high, int(histogram.counts.sum())
    (-1.0, 3.0, 3)
    """

    def __init__(self) -> None:
        self.low = self.high = self.width = 0.0
        self.counts = np.zeros(2 * BINS, np.int64)

    def add(self, x: np.ndarray) -> None:
        """Count values.

        Raises
        ------
        ValueError
            Where one is not finite.
        """
        low, high = float(x.min()), float(x.max())
        if not np.isfinite((low, high)).all():
            raise ValueError("has values that are not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        peak = max(-low, high)
        if self.width == 0 and peak > 0:
            self.width = np.nextafter(peak, np.inf) / BINS
            self.counts[BINS] = self.counts.sum()  # what came before were zeros
        while peak > self.width * BINS:
            self._widen()
        places = np.full(x.size, BINS) if self.width == 0 else np.floor(x.ravel() / self.width).astype(np.intp) + BINS
        self.counts += np.bincount(np.clip(places, 0, 2 * BINS - 1), minlength=2 * BINS)

    def _widen(self) -> None:
        """Double the width; two neighbours become one bin."""
        joined = self.counts.reshape(BINS, 2).sum(1)
        self.counts = np.zeros_like(self.counts)
        self.counts[BINS // 2 : BINS // 2 + BINS] = joined
        self.width *= 2

    @property
    def centres(self) -> np.ndarray:
        """The middle of each bin, but no farther out than the values."""
        middles = (np.arange(2 * BINS) - BINS + 0.5) * self.width
        return np.asarray(np.clip(middles, self.low, self.high))

    def joined(self, other: Histogram) -> Histogram:
        """The histogram of the values of both."""
        result = Histogram()
        result.low, result.high = min(self.low, other.low), max(self.high, other.high)
        result.width = max(self.width, other.width)
        for part in (self, other):
            places = np.full(2 * BINS, BINS)
            if result.width:
                places = np.floor(part.centres / result.width).astype(np.intp) + BINS
            weights = part.counts.astype(np.float64)
            result.counts += np.bincount(np.clip(places, 0, 2 * BINS - 1), weights, 2 * BINS).astype(np.int64)
        return result


def range_of(histogram: Histogram, method: str, percentile: float) -> tuple[float, float]:
    """The range that 8 bits stand for.

    Parameters
    ----------
    histogram : Histogram
    method : str
        One of `METHODS`.
    percentile : float
        Share of the values within the range in percent, for that method.

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.add(np.append(np.linspace(0, 1, 100_000), 50))
    >>> range_of(histogram, "minmax", 99.99), round(range_of(histogram, "percentile", 99.99)[1], 1)
    ((0.0, 50.0), 1.0)
    """
    if histogram.high == histogram.low or method == "minmax":
        return histogram.low, histogram.high
    if method == "percentile":
        return _percentile(histogram, percentile)
    return _least(histogram, _squared_error if method == "mse" else _divergence)


def scale_and_zero(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """The scale and the zero point of uint8 numbers that stand for a range, which is extended to 0.

    Examples
    --------
    >>> scale_and_zero(-1.0, 1.55)
    (np.float32(0.01), np.uint8(100))
    """
    low, high = min(low, 0.0), max(high, 0.0)
    # A range that is too small for a normal float32 has no products with scales of weights.
    scale = np.float32(max((high - low) / (LEVELS - 1), 1e-20)) if high > low else np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, LEVELS - 1))


def clipped_share(histogram: Histogram, low: float, high: float) -> float:
    """The share of the values that lie outside of a range by more than rounding."""
    half = 0.5 * (high - low) / (LEVELS - 1)
    centres, total = histogram.centres, histogram.counts.sum()
    outside = (centres < low - half) | (centres > high + half)
    return float(histogram.counts[outside].sum() / total) if total else 0.0


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """Both ends leave out half of the rest each; a range that begins or ends at 0 leaves out all of it at the other."""
    rest = 1 - percentile / 100
    sides = (histogram.low < 0) + (histogram.high > 0)
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = (np.arange(2 * BINS + 1) - BINS) * histogram.width
    first = int(np.searchsorted(share, rest / sides, side="right"))
    last = int(np.searchsorted(share, 1 - rest / sides, side="left"))
    low = min(0.0, max(histogram.low, edges[first])) if histogram.low < 0 else 0.0
    high = max(0.0, min(histogram.high, edges[last + 1])) if histogram.high > 0 else 0.0
    return float(low), float(high)


def _least(histogram: Histogram, loss: Callable[[Histogram, float, float], float]) -> tuple[float, float]:
    """The range of the least loss: first both ends move, then each by itself."""
    low, high = histogram.low, histogram.high
    best = min(SHARES, key=lambda share: loss(histogram, share * low, share * high))
    low, high = best * low, best * high
    if low < 0 < high:
        low = min((share * histogram.low for share in SHARES), key=lambda end: loss(histogram, end, high))
        high = min((share * histogram.high for share in SHARES), key=lambda end: loss(histogram, low, end))
    return float(low), float(high)


def _squared_error(histogram: Histogram, low: float, high: float) -> float:
    step = (high - low) / (LEVELS - 1)
    centres = histogram.centres
    rounded = np.clip(np.rint((centres - low) / step), 0, LEVELS - 1) * step + low
    # Values within a bin, and within a level, lie anywhere: a bin has an error of its own.
    inside = np.minimum(step, histogram.width) ** 2 / 12
    return float((histogram.counts * ((centres - rounded) ** 2 + inside)).sum())


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """The divergence of the distribution from that of its quantised values; what is clipped lies at the ends."""
    counts, centres = histogram.counts.copy(), histogram.centres
    # The zeros of a ReLU are exact in every range, and would outweigh all else.
    counts[BINS] = min(counts[BINS], max(counts[BINS - 1], counts[BINS + 1]))
    inside = (centres >= low) & (centres <= high)
    places = np.flatnonzero(inside)
    if not len(places):
        return float("inf")
    true = counts[places].astype(np.float64)
    reference = true.copy()
    reference[0] += counts[: places[0]].sum()
    reference[-1] += counts[places[-1] + 1 :].sum()
    levels = np.clip(((centres[places] - low) / (high - low) * LEVELS).astype(np.intp), 0, LEVELS - 1)
    filled = true > 0
    mass = np.bincount(levels, true, LEVELS)
    held = np.maximum(1, np.bincount(levels, filled, LEVELS))
    found = np.where(filled, (mass / held)[levels], 0.0)
    if not found.sum():
        return float("inf")
    p, q = reference / reference.sum(), found / found.sum()
    q = np.maximum(q, 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())

"""Ranges of values, and the scales that come of them."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.quantization.ranges import BINS, METHODS, Histogram, clipped_share, range_of, scale_and_zero

RNG = np.random.default_rng(5)
NORMAL = RNG.standard_normal(200_000)


def histogram(*parts):
    found = Histogram()
    for part in parts:
        found.add(np.asarray(part, np.float32))
    return found


def squared_error(x, low, high):
    scale, zero = scale_and_zero(low, high)
    q = np.clip(np.rint(x / scale) + zero, 0, 255)
    return float(np.square(x - (q - zero) * scale).mean())


def test_a_histogram_counts_what_comes_in_parts_as_what_comes_at_once():
    parts = NORMAL[:100] * 0.01, np.zeros(50), NORMAL[100:1000], 40 * NORMAL[1000:1010], NORMAL[2000:]
    whole = np.concatenate(parts)
    found = histogram(*parts)
    assert found.counts.sum() == whole.size
    assert (found.low, found.high) == (np.float32(whole.min()), np.float32(whole.max()))
    edges = (np.arange(2 * BINS + 1) - BINS) * found.width
    expected = np.histogram(whole.astype(np.float32), edges)[0]
    assert np.abs(np.cumsum(found.counts - expected)).max() <= 2  # values on an edge, in float32
    assert found.width * BINS < 2.001 * np.abs(whole).max()


def test_a_histogram_of_two_values_is_that_of_both():
    first, second = histogram(NORMAL[:5000]), histogram(3 * NORMAL[5000:9000])
    joined = first.joined(second)
    assert joined.counts.sum() == 9000 and joined.low == second.low and joined.high == second.high
    both = np.concatenate([NORMAL[:5000], 3 * NORMAL[5000:9000]])
    edges = (np.arange(1, 2 * BINS + 1) - BINS) * joined.width
    expected = [np.mean(both < edge) for edge in edges[::64]]
    assert np.abs(np.cumsum(joined.counts)[::64] / 9000 - expected).max() < 0.01


def test_values_that_are_all_zero_have_a_range():
    zeros = histogram(np.zeros(10))
    assert [range_of(zeros, method, 99.0) for method in METHODS] == [(0.0, 0.0)] * 4
    assert scale_and_zero(0.0, 0.0) == (1, 0)
    assert histogram(np.zeros(10), [1.0]).counts[BINS] == 10


def test_minmax_takes_all_values():
    found = histogram(NORMAL)
    assert range_of(found, "minmax", 99.99) == (found.low, found.high)
    assert clipped_share(found, found.low, found.high) == 0


@pytest.mark.parametrize("sides", [1, 2])
def test_percentile_leaves_out_that_share(sides):
    values = np.abs(NORMAL) if sides == 1 else NORMAL
    low, high = range_of(histogram(values), "percentile", 99.0)
    outside = np.mean((values < low) | (values > high))
    assert 0.005 < outside < 0.0101 and (low == 0) == (sides == 1)


def test_mse_finds_a_smaller_error_than_all_values_have():
    values = np.append(NORMAL, [60.0])
    found = histogram(values)
    low, high = range_of(found, "mse", 0)
    least = min(
        squared_error(values, -a * 4.8, b * 60) for a in np.linspace(0.5, 1, 6) for b in np.linspace(0.05, 1, 20)
    )
    assert squared_error(values, low, high) < 0.8 * squared_error(values, found.low, found.high)
    assert squared_error(values, low, high) < 1.05 * least


def test_entropy_gives_up_a_far_value_for_finer_steps():
    low, high = range_of(histogram(np.append(NORMAL, [-30.0, 30.0])), "entropy", 0)
    assert -25 < low < -3 and 3 < high < 25


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 3.0), (-5.0, -1.0), (0.3, 0.9), (-1e-30, 1e-30)])
def test_zero_is_a_number_and_both_ends_are_within_half_a_step(low, high):
    scale, zero = scale_and_zero(low, high)
    assert scale.dtype == np.float32 and zero.dtype == np.uint8 and scale > 0
    for end in (low, high):
        q = np.clip(np.rint(end / scale) + float(zero), 0, 255)
        assert abs((q - float(zero)) * scale - end) <= 0.5001 * scale


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        histogram([1.0, np.inf])

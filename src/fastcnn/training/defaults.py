"""Settings that follow from the data, where nobody gives them: how long to train, and whether classes count the same.

What they come to beside other classifiers is told in docs/defaults.md, which benchmarks/defaults.py writes.
"""

from __future__ import annotations

import numpy as np

__all__ = ["epochs_for", "is_out_of_balance"]

_STEPS = 400  # that a small network needs to learn from few images, whatever the number of epochs
_FEWEST, _MOST = 20, 200
_OUT_OF_BALANCE = 3  # times as many inputs in the largest class as in the smallest


def epochs_for(count: int, batch_size: int) -> int:
    """Return the epochs for a number of inputs: 20, or as many as make 400 steps, but at most 200.

    Examples
    --------
    >>> epochs_for(20, 32), epochs_for(1000, 32), epochs_for(60_000, 32)
    (200, 20, 20)
    """
    steps = -(-count // batch_size)
    return min(max(_FEWEST, -(-_STEPS // max(steps, 1))), _MOST)


def is_out_of_balance(labels: np.ndarray) -> bool:
    """Whether the largest class has more than three times the inputs of the smallest.

    Examples
    --------
    >>> is_out_of_balance(np.array([0, 0, 0, 1])), is_out_of_balance(np.array([0, 0, 0, 0, 1]))
    (False, True)
    """
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    return bool(counts.max() > _OUT_OF_BALANCE * counts.min())

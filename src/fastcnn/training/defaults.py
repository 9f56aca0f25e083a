"""Settings that follow from the data, where nobody gives them.

They are how long to train, whether classes count the same, and whether photos or rows are few.
What they come to beside other classifiers is told in docs/defaults.md, which benchmarks/defaults.py writes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["FEW_ROWS_DECAY", "STEPS", "ClassWeight", "are_few", "are_few_rows", "class_weight_for", "epochs_for",
    "is_out_of_balance"]  # fmt: skip

STEPS = 400  # that a small network needs to learn from few inputs, whatever the number of epochs
FEW_ROWS_DECAY = 1.0  # of weights, by AdamW; docs/defaults_rows.md tells how it was chosen

_FEWEST, _MOST = 20, 200
_OUT_OF_BALANCE = 3  # times as many inputs in the largest class as in the smallest
_FEW = 5000  # photos; the features of more take minutes and much memory, and more teach a network of their own
_FEW_ROWS = 512  # at most, that one step takes all of; the sets that it was measured on have 75 to 500


class ClassWeight(NamedTuple):
    """What classes count in the loss, and why, as a line; without a line where nothing is out of the ordinary."""

    value: str | None
    line: str


def are_few(photos: int) -> bool:
    """Whether photos are so few that pretrained features help: less than 5000.

    Examples
    --------
    >>> are_few(80), are_few(100_000)
    (True, False)
    """
    return photos < _FEW


def are_few_rows(count: int) -> bool:
    """Whether rows of features are so few that each step learns from all of them: at most 512.

    Examples
    --------
    >>> are_few_rows(512), are_few_rows(513)
    (True, False)
    """
    return count <= _FEW_ROWS


def epochs_for(count: int, batch_size: int) -> int:
    """Return the epochs for a number of inputs: 20, or as many as make 400 steps, but at most 200.

    Examples
    --------
    >>> epochs_for(20, 32), epochs_for(1000, 32), epochs_for(60_000, 32)
    (200, 20, 20)
    """
    steps = -(-count // batch_size)
    return min(max(_FEWEST, -(-STEPS // max(steps, 1))), _MOST)


def is_out_of_balance(labels: np.ndarray) -> bool:
    """Whether the largest class has more than three times the inputs of the smallest.

    Examples
    --------
    >>> is_out_of_balance(np.array([0, 0, 0, 1])), is_out_of_balance(np.array([0, 0, 0, 0, 1]))
    (False, True)
    """
    fewest, most = _range(labels)
    return most > _OUT_OF_BALANCE * fewest


def class_weight_for(labels: np.ndarray) -> ClassWeight:
    """Let each class count the same where they are out of balance.

    Examples
    --------
    >>> class_weight_for(np.array([0, 0, 0, 0, 1])).line
    'classes are out of balance (1 to 4 inputs): each counts the same in the loss'
    >>> class_weight_for(np.array([0, 1]))
    ClassWeight(value=None, line='')
    """
    if labels.ndim > 1 or not is_out_of_balance(labels):  # several labels: each has a loss of its own
        return ClassWeight(None, "")
    fewest, most = _range(labels)
    line = f"classes are out of balance ({fewest} to {most} inputs): each counts the same in the loss"
    return ClassWeight("balanced", line)


def _range(labels: np.ndarray) -> tuple[int, int]:
    """The inputs of the smallest class that has some, and of the largest."""
    counts = np.bincount(labels)
    return int(counts[counts > 0].min()), int(counts.max())

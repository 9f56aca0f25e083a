"""Shards: the parts into which a batch is cut, and the order in which what they give is summed.

The sum is a tree whose form the number of shards decides alone. Whoever computes a branch of it, and when, changes
no bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

__all__ = ["add_into", "branches", "cut", "middle", "tree"]

T = TypeVar("T")


def cut(count: int, shards: int) -> list[slice]:
    """Return the parts of a batch, the larger ones first; there are fewer parts than shards where inputs are fewer.

    Examples
    --------
    >>> cut(7, 3), len(cut(2, 3))
    ([slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)], 2)
    """
    parts = min(count, shards)
    ends = [0]
    for i in range(parts):
        ends.append(ends[-1] + count // parts + (i < count % parts))
    return [slice(first, last) for first, last in zip(ends, ends[1:], strict=False)]


def middle(first: int, last: int) -> int:
    """Return where the tree divides the shards from `first` to before `last`: its left branch is a power of two.

    Examples
    --------
    >>> middle(0, 8), middle(0, 7), middle(4, 7)
    (4, 4, 6)
    """
    return first + (1 << (last - first - 1).bit_length() - 1)


def tree(first: int, last: int, leaf: Callable[[int], T], add: Callable[[T, T], T]) -> T:
    """Return the sum of ``leaf(i)`` for all shards from `first` to before `last`, in the order of the tree.

    Examples
    --------
    >>> tree(0, 5, str, "({}+{})".format)
    '(((0+1)+(2+3))+4)'
    """
    if last - first == 1:
        return leaf(first)
    half = middle(first, last)
    left = tree(first, half, leaf, add)
    return add(left, tree(half, last, leaf, add))


def branches(first: int, last: int, owners: list[int]) -> list[tuple[int, int, int]]:
    """Return the largest branches of the tree whose shards have one owner each: first shard, end, owner.

    Examples
    --------
    >>> branches(0, 4, [0, 0, 0, 1])
    [(0, 2, 0), (2, 3, 0), (3, 4, 1)]
    """
    found = set(owners[first:last])
    if len(found) == 1:
        return [(first, last, found.pop())]
    half = middle(first, last)
    return branches(first, half, owners) + branches(half, last, owners)


def add_into(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Add an array to another one, in place."""
    left += right
    return left

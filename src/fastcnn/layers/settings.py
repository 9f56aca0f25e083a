"""Types and checks of the settings that layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

__all__ = ["Padding", "Pair", "check_positive", "pair"]

Pair: TypeAlias = int | tuple[int, int]
Padding: TypeAlias = int | Sequence[int] | str


def pair(value: Pair, name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, (int, np.integer)) and v > 0 for v in pair):
        raise ValueError(f"{name}={value!r}, expected a positive int or a pair of them")
    return int(pair[0]), int(pair[1])


def check_positive(layer: str, **settings: int) -> None:
    for name, value in settings.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{layer}: {name}={value!r}, expected a positive int")

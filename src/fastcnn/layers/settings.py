"""Types and checks of the settings that layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

__all__ = ["Padding", "Pair", "check_positive"]

Pair: TypeAlias = int | tuple[int, int]
Padding: TypeAlias = int | Sequence[int] | str


def check_positive(layer: str, **settings: int) -> None:
    for name, value in settings.items():
        if not isinstance(value, (int, np.integer)) or not 0 < value < 1 << 31:
            raise ValueError(f"{layer}: {name}={value!r}, expected a positive int, below 2**31")

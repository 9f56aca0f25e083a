"""What every definition shares: its types, float64 and silence about infinities and NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = Sequence[int]
P = ParamSpec("P")


def ieee(define: Callable[P, Array]) -> Callable[P, Array]:
    """Compute without warnings, and give an array where NumPy would give a scalar."""

    @wraps(define)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(define(*args, **kwargs))

    return quiet


def as_real(x: npt.ArrayLike) -> Array:
    return np.asarray(x, dtype=np.float64)

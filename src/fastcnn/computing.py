"""How a network is computed: by which algorithms, in which type, and what is refused.

plan_cache.py keeps the plans that these settings lead to; network.py runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastcnn._arguments import as_choice, as_flag
from fastcnn.layers.base import Layer
from fastcnn.plan_cache import PlanCache

__all__ = ["DTYPES", "Computing"]

DTYPES = ("float32", "bfloat16")


class Computing(Layer):
    """A layer with compiled plans, and the settings that they depend on; `Network` adds running them."""

    _cache: PlanCache
    _tuning: Mapping[str, str] = {}
    _reproducible: bool = False
    _strict: bool = False
    _dtype: str = "float32"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        object.__setattr__(self, "_cache", PlanCache())
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_cache"}

    @property
    def tuning(self) -> dict[str, str]:
        """The fastest algorithm of each kind of convolution, as measured by `Model.tune`; empty before.

        The entries are plain text that can be reviewed, kept as JSON and assigned to another model. `Model.save` writes
        them into the file. Entries that a network or a machine does not know are ignored.
        """
        return dict(self._tuning)

    @tuning.setter
    def tuning(self, choices: Mapping[str, str]) -> None:
        if not isinstance(choices, Mapping) or not all(
            isinstance(text, str) for pair in choices.items() for text in pair
        ):
            raise TypeError(f"{type(self).__name__}.tuning: expected a dict of str to str")
        object.__setattr__(self, "_tuning", dict(choices))
        self._cache.forget_plans()

    @property
    def reproducible(self) -> bool:
        """Whether an image's outputs have the same bits in batches of every size; False by default.

        The number of threads, the place in the batch and the run never change the bits. The size of the batch may:
        larger batches can take faster algorithms that round differently (see `fastcnn.functional.conv2d`).
        """
        return self._reproducible

    @reproducible.setter
    def reproducible(self, value: bool) -> None:
        object.__setattr__(self, "_reproducible", bool(value))
        self._cache.forget_plans()

    @property
    def strict(self) -> bool:
        """Whether a step that only NumPy computes is an error, which names it and the reason; False by default."""
        return self._strict

    @strict.setter
    def strict(self, value: bool) -> None:
        object.__setattr__(self, "_strict", as_flag(value, f"{type(self).__name__}.strict"))
        self._cache.forget_plans()

    @property
    def dtype(self) -> str:
        """The type in which files hold the weights, "float32" or "bfloat16"; `Model.astype` changes it.

        With "bfloat16", convolutions and linear layers may multiply rounded numbers, and add up in float32. They do so
        where the machine has instructions for that, and where it is faster.
        """
        return self._dtype

    def _set_dtype(self, dtype: str) -> None:
        object.__setattr__(self, "_dtype", as_choice(dtype, "dtype", DTYPES))
        self._cache.forget_plans()

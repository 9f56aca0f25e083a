"""How the algorithms of a model's convolutions are chosen. The cost model is compiler/choose.py's, measuring
compiler/tune.py's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from numpy.typing import ArrayLike

from fastcnn._arguments import as_int

if TYPE_CHECKING:
    from fastcnn._plan_cache import PlanCache
    from fastcnn.model import Model

__all__ = ["Tunable"]


class Tunable:
    """What `Model` has of the choice of algorithms."""

    _cache: PlanCache
    _tuning: dict[str, str]
    _reproducible: bool

    @property
    def tuning(self) -> dict[str, str]:
        """The fastest algorithm of each kind of convolution, as `tune` has measured it; empty before.

        Plain text that can be reviewed, kept as JSON and assigned to another model; `save` writes it into the file.
        Entries that a network or a machine does not know are ignored.
        """
        return dict(self._tuning)

    @tuning.setter
    def tuning(self, choices: Mapping[str, str]) -> None:
        if not isinstance(choices, Mapping) or not all(
            isinstance(text, str) for pair in choices.items() for text in pair
        ):
            raise TypeError(f"{type(self).__name__}.tuning: expected a dict of str to str")
        self.__dict__["_tuning"] = dict(choices)
        self._cache.forget_plans()

    @property
    def reproducible(self) -> bool:
        """Whether an image's outputs have the same bits in batches of every size; False to begin with.

        They are the same for any number of threads, in every place of a batch and in every run anyway. Batches may take
        other algorithms than single images, which differ in rounding (see `fastcnn.functional.conv2d`), where that is
        faster.
        """
        return self._reproducible

    @reproducible.setter
    def reproducible(self, value: bool) -> None:
        self.__dict__["_reproducible"] = bool(value)
        self._cache.forget_plans()

    def tune(self, x: ArrayLike, repeats: int = 10) -> dict[str, dict[str, float]]:
        """Time the algorithms of every convolution on this machine, and use the fastest from now on.

        Without it a fixed cost model chooses. What is found for a batch then holds for batches of every size.
        Algorithms differ in rounding (see `fastcnn.functional.conv2d`), so a tuned model's outputs may differ from an
        untuned one's in the last digits.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A batch of inputs as they will come, N >= 1.
        repeats : int
            Times are medians of so many turns, in each of which an algorithm runs beside the untuned network.

        Returns
        -------
        dict
            Seconds of each algorithm, for each kind of convolution. The fastest stand in `tuning`.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import Conv2d, Sequential
        >>> model = Sequential(Conv2d(8, 8, 3))
        >>> times = model.tune(np.zeros((1, 8, 20, 20)), repeats=3)
        >>> list(times) == list(model.tuning)
        True
        """
        from fastcnn.compiler.tune import measure

        batch = cast("Model", self)._as_batch(x)
        repeats = as_int(repeats, "tune: repeats", 1)
        if len(batch) == 0:
            raise ValueError("tune: len(x)=0, expected at least one input")
        graph = cast("Model", self).graph(batch.shape[1:])
        times = measure(graph, dict.fromkeys(graph.inputs, batch), repeats)
        best = {key: min(candidates, key=candidates.__getitem__) for key, candidates in times.items()}
        self.tuning = {**self._tuning, **best}
        return times

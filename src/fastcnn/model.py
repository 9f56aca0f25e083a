"""Models: networks that are trained, examined, tuned and written to files.

Predicting is network.py's. Files are _storable.py's, learning fitting.py's, chains of layers sequential.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from fastcnn._arguments import as_int
from fastcnn._storable import Storable
from fastcnn.fitting import Fitting
from fastcnn.network import Network, Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastcnn.profile import Profile
    from fastcnn.summary import Summary

__all__ = ["Model", "Prediction"]


class Model(Fitting, Storable, Network):
    """A network: layers set as attributes, and a ``forward`` of one input and one output.

    Calling a model with an array traces ``forward`` once for the array's shape, compiles the graph, keeps
    the plan (for the last 8 shapes) and runs it. Within another model it is a layer like any other.
    Models can be called from many threads, pickled and deep-copied; plans are not part of the copy. While one thread
    trains a model, a prediction in another has the parameters of one step: the last that is finished, or one before.

    Attributes
    ----------
    classes : list of str, or None
        The names of the outputs.
    input_shape : tuple of int, or None
        Shape of one input without the batch axis, usually (channels, height, width).
    preprocess : fastcnn.io.image.Preprocess, or None
        Turns a photo into an input; used by `classify`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn.layers import Conv2d, GlobalAvgPool2d, Linear
    >>> from fastcnn import functional as fc
    >>> class Tiny(Model):
    ...     def __init__(self):
    ...         self.conv = Conv2d(3, 8, 3, padding="same")
    ...         self.pool = GlobalAvgPool2d()
    ...         self.head = Linear(8, 2)
    ...         self.classes = ["cat", "dog"]
    ...     def forward(self, x):
    ...         return self.head(fc.flatten(self.pool(fc.relu(self.conv(x)))))
    >>> images = np.ones((5, 3, 16, 16), np.float32)
    >>> model = Tiny()
    >>> model(images).shape
    (5, 2)
    >>> set(model.predict(images)) <= {"cat", "dog"}
    True
    """

    def summary(self, input_shape: Sequence[int] | None = None) -> Summary:
        """Return a table of layers: output shapes, parameters, arithmetic, and the kernels chosen.

        Parameters
        ----------
        input_shape : sequence of int, optional
            Shape of one input, without the batch axis; default `self.input_shape`.

        Returns
        -------
        fastcnn.summary.Summary
            ``print`` it; ``rows[i].reasons`` tells why other kernels were not taken.
        """
        from fastcnn.summary import summarise

        return summarise(self._stored_graph(input_shape))

    def profile(self, x: ArrayLike, repeats: int = 20) -> Profile:
        """Tell where the time of a prediction goes.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A batch of inputs, N >= 1.
        repeats : int
            Times are medians of so many runs.

        Returns
        -------
        fastcnn.profile.Profile
            ``print`` it for a table of steps: time, speed, how near the machine's limit; ``to_dict()`` is for JSON,
            ``plot(path)`` draws the roofline, and ``steps[i].reasons`` tells why other algorithms were not taken.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import Linear, Sequential
        >>> model = Sequential(Linear(64, 32))
        >>> [step.kernel for step in model.profile(np.ones((4, 64))).steps]
        ['gemm']
        """
        from fastcnn.profile import profile_plan

        batch = self._as_batch(x)
        repeats = as_int(repeats, "profile: repeats", 0)
        if len(batch) == 0 or repeats == 0:
            raise ValueError(f"profile: len(x)={len(batch)}, repeats={repeats}, expected at least one of each")
        return profile_plan(self._compiled(len(batch), batch).plan, [batch], repeats)

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

        batch = self._as_batch(x)
        repeats = as_int(repeats, "tune: repeats", 1)
        if len(batch) == 0:
            raise ValueError("tune: len(x)=0, expected at least one input")
        graph = self.graph(batch.shape[1:])
        times = measure(graph, dict.fromkeys(graph.inputs, batch), repeats)
        best = {key: min(candidates, key=candidates.__getitem__) for key, candidates in times.items()}
        self.tuning = {**self._tuning, **best}
        return times

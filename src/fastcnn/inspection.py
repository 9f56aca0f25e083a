"""Networks that are looked into: a table of layers, the time of each step, and the fastest algorithms.

summary.py and profile.py make the tables, compiler/tune.py measures algorithms; they are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_int
from fastcnn.learner import Learner

if TYPE_CHECKING:
    from fastcnn.profile import Profile
    from fastcnn.summary import Summary

__all__ = ["Inspectable"]


class Inspectable(Learner):
    """A network that can be looked into; `Model` adds another last layer, fewer bits, and files."""

    def feature_maps(self, image: Any, layers: str | Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Return what layers compute for images: their feature maps.

        Parameters
        ----------
        image : photo, sequence of photos, or array_like
            A photo in any form that `classify` takes, or several. An array is one input, or a batch (N, ...).
        layers : str or sequence of str, optional
            Names of layers: their paths, as of PyTorch's modules, or nodes and values of an ONNX file. A layer that is
            called several times stands for its last call, a block for its end. By default all layers whose values
            have places, that is three axes or more. `fastcnn.explain.layers` lists the names.

        Returns
        -------
        dict of str to ndarray
            For each name the values of the batch, for images usually (N, channels, height, width). Values before a
            fused activation are computed, too.

        Raises
        ------
        ValueError
            If the network has no layer of a name.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import zoo
        >>> maps = zoo.lenet().feature_maps(np.zeros((2, 1, 28, 28)), ["conv1", "pool1"])
        >>> maps["conv1"].shape, maps["pool1"].shape
        ((2, 6, 28, 28), (2, 6, 14, 14))
        """
        from fastcnn.inside import feature_maps

        return feature_maps(self, image, layers)

    def embed(
        self,
        x: Any,
        batch_size: int = 32,
        progress: bool = False,
        on_error: str = "skip",
        *,
        layer: str | None = None,
        num_threads: int | None = None,
    ) -> np.ndarray:
        """Return a vector of features for each image: what the last layer decides by.

        Images that the network finds similar have vectors of a small angle. `fastcnn.explain.nearest` looks for them.

        Parameters
        ----------
        x, batch_size, progress, on_error
            As for `predict_proba`.
        layer : str, optional
            Another layer, as for `feature_maps`. The mean over all places is taken.
        num_threads : int, optional
            As for `predict_proba`.

        Returns
        -------
        ndarray (N, features), float32
            The rows of photos that cannot be read are NaN.

        Raises
        ------
        ValueError
            If the network does not end in a linear layer or a convolution, and no layer is named.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import zoo
        >>> zoo.lenet().embed(np.zeros((2, 1, 28, 28))).shape
        (2, 84)
        """
        from fastcnn.inside import embeddings

        return embeddings(self, x, batch_size, progress, on_error, layer, num_threads)

    def summary(self, input_shape: Sequence[int] | None = None, verbose: bool = False) -> Summary:
        """Return a table of layers: output shapes, parameters, arithmetic and chosen kernels.

        Parameters
        ----------
        input_shape : sequence of int, optional
            Shape of one input, without the batch axis; default `self.input_shape`.
        verbose : bool
            Let the text tell why other kernels were not taken.

        Returns
        -------
        fastcnn.summary.Summary
            ``print`` it for the table; ``rows[i].reasons`` says why other kernels were not taken.

        Examples
        --------
        >>> from fastcnn import Linear, Sequential
        >>> Sequential(Linear(2, 3)).summary((2,)).parameters
        9
        """
        from fastcnn.summary import summarise

        return summarise(self._stored_graph(input_shape), verbose, self.dtype == "bfloat16")

    def profile(self, x: ArrayLike, repeats: int = 20) -> Profile:
        """Measure the steps of a prediction.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A batch of inputs, N >= 1.
        repeats : int
            Runs whose median time counts.

        Returns
        -------
        fastcnn.profile.Profile
            ``print`` it for a table of steps: time, speed, and share of the machine's limit. ``to_dict()`` is for JSON,
            ``plot(path)`` draws the roofline. ``steps[i].reasons`` says why other algorithms were not taken.

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

    def tune(self, x: ArrayLike, repeats: int = 10, progress: bool | None = None) -> dict[str, dict[str, float]]:
        """Time the algorithms of every convolution on this machine, and use the fastest from now on.

        Without tuning a fixed cost model chooses. The choices for a batch hold for batches of every size. Algorithms
        differ in rounding (see `fastcnn.functional.conv2d`), so that outputs may change in the last digits.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A typical batch of inputs, N >= 1.
        repeats : int
            Turns whose median time counts; in each turn an algorithm runs next to the untuned network.
        progress : bool, optional
            Show progress on stderr; by default only on a terminal.

        Returns
        -------
        dict
            Seconds of each algorithm, for each kind of convolution. `tuning` holds the fastest.

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

        batch = np.asarray(self._as_batch(x), np.float32)
        repeats = as_int(repeats, "tune: repeats", 1)
        if len(batch) == 0:
            raise ValueError("tune: len(x)=0, expected at least one input")
        graph = self._kernel_graph(batch.shape[1:])
        inputs = dict.fromkeys(graph.inputs, batch)
        times = measure(graph, inputs, repeats, progress, self.dtype == "bfloat16")
        best = {key: min(candidates, key=candidates.__getitem__) for key, candidates in times.items()}
        self.tuning = {**self._tuning, **best}
        return times

    def _repr_html_(self) -> str:
        """What notebooks show: the summary, where the shape of inputs is known and the network takes it."""
        from fastcnn._table import as_html

        if self.input_shape is None:
            return as_html(repr(self))
        try:
            return as_html(self.summary())
        except (TypeError, ValueError):
            return as_html(repr(self))

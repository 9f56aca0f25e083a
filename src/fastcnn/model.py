"""Models: networks that learn, are looked into, tuned, and written to files.

Predicting is network.py's, learning learner.py's and training/'s, the formats of files model_format.py's and io/'s,
reading them loading.py's. What only some programs need is imported when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from fastcnn._arguments import as_int
from fastcnn.errors import ModelLoadError
from fastcnn.learner import Learner
from fastcnn.network import Prediction

if TYPE_CHECKING:
    from fastcnn.layers.initial import RandomSource
    from fastcnn.profile import Profile
    from fastcnn.summary import Summary

__all__ = ["Model", "Prediction"]


class Model(Learner):
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

    # -- its last layer --------------------------------------------------------------------------------

    def replace_head(self, num_classes: int, *, rng: RandomSource = None) -> Model:
        """Give the network a new last layer that has learned nothing yet, to let it learn other classes.

        The last layer is the linear one, or the convolution, that the output comes from, but for activations, pools
        and changes of shape. Names of classes and `task` are forgotten.

        Parameters
        ----------
        num_classes : int
            Outputs.
        rng : numpy.random.Generator or int, optional
            Source of its first weights.

        Returns
        -------
        Model
            Itself.

        Raises
        ------
        ValueError
            If there is no such layer, or `input_shape`, for which networks in Python are traced, is not set.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import zoo
        >>> model = zoo.lenet(num_classes=10).replace_head(3)
        >>> model(np.zeros((1, *model.input_shape))).shape
        (1, 3)
        """
        from fastcnn.head import replace_head

        replace_head(self, num_classes, rng)
        return self

    # -- looking inside -------------------------------------------------------------------------------

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

    # -- files ----------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, graph, scaling, preprocessing, classes and task to one file.

        Parameters
        ----------
        path : path-like
            The suffix tells the format: .onnx (as `export_onnx`), else safetensors. Replaced at once when the file is
            complete. `fastcnn.load` reads it.

        Raises
        ------
        ValueError
            If `input_shape` is not set, or the suffix is another one than .safetensors and .onnx.
        OSError
            If the file cannot be written.
        """
        from fastcnn.model_format import save

        save(self, path)

    def load_weights(self, path: str | os.PathLike[str], *, max_bytes: int = 4 << 30) -> None:
        """Take weights from a file, by name: safetensors, or a PyTorch checkpoint (.pth, .pt) of torchvision or timm.

        Parameters
        ----------
        path : path-like
            It can come from anyone: it is checked, and nothing in it is run. Names that start with "module.", as
            PyTorch's DataParallel writes them, are taken without it.
        max_bytes : int
            The most that the arrays may take together.

        Raises
        ------
        ModelLoadError
            If the file is damaged or hostile, or its names and shapes are not the model's: all that differ are listed.
        OSError
            If the file cannot be read.
        """
        from fastcnn.io.weights import read_weights

        arrays = read_weights(path, max_bytes=max_bytes)
        if arrays and all(name.startswith("module.") for name in arrays):
            arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
        try:
            self.load_state_dict(arrays)
        except (ValueError, TypeError) as error:
            raise ModelLoadError(f"{path}: {error}") from error

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to an ONNX file, for ONNX Runtime and others; `fastcnn.load` reads it too.

        Parameters
        ----------
        path : path-like
            Replaced at once when the file is complete. Opset 17 and IR version 8, unless the network has operations
            that are newer. The size of the batch is free. Scaling of inputs is a part of the graph: other engines take
            the same numbers. Classes, preprocessing of photos and task are kept as metadata.

        Raises
        ------
        ValueError
            If `input_shape` is not set, or the file would exceed the 2 GB that ONNX allows.
        ImportError
            Without the `onnx` package, which ``pip install "fastcnn[onnx]"`` brings.
        OSError
            If the file cannot be written.
        """
        from fastcnn.model_format import export_onnx

        export_onnx(self, path)

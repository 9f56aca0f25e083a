"""Models: networks that learn, are looked into, tuned, and written to files.

network.py predicts, learner.py and training/ learn, model_format.py and io/ write files, and loading.py reads them.
Modules that few programs need are imported where they are used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_int
from fastcnn.learner import Learner
from fastcnn.ops.budget import MAX_BYTES
from fastcnn.task import Prediction

if TYPE_CHECKING:
    from fastcnn.layers.initial import RandomSource
    from fastcnn.profile import Profile
    from fastcnn.summary import Summary

__all__ = ["Model", "Prediction"]


class Model(Learner):
    """A network: layers set as attributes, and a ``forward`` of one input and one output.

    A call with an array traces ``forward`` once for the array's shape, compiles the graph and runs the plan. Plans of
    the last 8 shapes are kept. Within another model it is a layer like any other. Models can be called from many
    threads, pickled and deep-copied; copies have no plans. While one thread trains a model, a prediction in another
    thread uses the parameters of one finished step.

    Attributes
    ----------
    classes : list of str, or None
        Names of the outputs.
    input_shape : tuple of int, or None
        Shape of one input without the batch axis, usually (channels, height, width).
    preprocess : fastcnn.io.image.Preprocess, or None
        Turns a photo into an input for `classify`.

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
            If the network has no last layer that can be replaced. Or if `input_shape` is not set, which tracing a
            network in Python needs.

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

        return summarise(self._stored_graph(input_shape), verbose)

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
        times = measure(graph, dict.fromkeys(graph.inputs, batch), repeats, progress)
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

    # -- files ----------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, graph, scaling, preprocessing, classes and task to one file.

        Parameters
        ----------
        path : path-like
            File to write, for `fastcnn.load`. The suffix .onnx gives ONNX, as `export_onnx`; other suffixes give
            safetensors. An old file is replaced in one moment when the new one is complete.

        Raises
        ------
        ValueError
            If `input_shape` is not set, or the suffix is another one than .safetensors and .onnx.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> from fastcnn import load, zoo
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     zoo.lenet().save(f"{folder}/digits.safetensors")
        ...     load(f"{folder}/digits.safetensors").input_shape
        (1, 28, 28)
        """
        from fastcnn.model_format import save

        save(self, path)

    def load_weights(self, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> None:
        """Take weights from a file, by name: safetensors, or a PyTorch checkpoint (.pth, .pt) of torchvision or timm.

        Parameters
        ----------
        path : path-like
            The file. It can come from anyone: it is checked, and nothing in it is run. The prefix "module." of
            PyTorch's DataParallel is removed from names.
        max_bytes : int
            Limit of the sum of all arrays.

        Raises
        ------
        ModelLoadError
            If the file is damaged or hostile, or if names or shapes differ from the model's. The message lists all
            differences.
        OSError
            If the file cannot be read.

        Examples
        --------
        >>> import tempfile
        >>> from fastcnn import zoo
        >>> model, other = zoo.lenet(rng=0), zoo.lenet(rng=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     other.save(f"{folder}/digits.safetensors")
        ...     model.load_weights(f"{folder}/digits.safetensors")
        >>> bool((model.conv1.weight == other.conv1.weight).all())
        True
        """
        from fastcnn.model_format import load_weights

        load_weights(self, path, max_bytes)

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to an ONNX file, for ONNX Runtime and others; `fastcnn.load` reads it too.

        Parameters
        ----------
        path : path-like
            File to write. An old file is replaced in one moment when the new one is complete. The file has opset 17 and
            IR version 8, or newer ones if an operation needs them. The size of the batch is free. Scaling of inputs is
            part of the graph, so that other engines take the same numbers. Classes, preprocessing of photos and task
            are kept as metadata.

        Raises
        ------
        ValueError
            If `input_shape` is not set, or the file would exceed the 2 GB that ONNX allows.
        ImportError
            Without the `onnx` package, which ``pip install "fastcnn[onnx]"`` brings.
        MemoryError
            If there is none for the network's nodes; the weights are not copied.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> from fastcnn import load, zoo
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     zoo.lenet().export_onnx(f"{folder}/digits.onnx")
        ...     load(f"{folder}/digits.onnx").input_shape
        (1, 28, 28)
        """
        from fastcnn.model_format import export_onnx

        export_onnx(self, path)

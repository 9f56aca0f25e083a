"""Networks: layers that are traced into a graph, compiled once per input shape, and run.

This file predicts in batches. graph/trace.py traces, compiler/ compiles, and plan_cache.py keeps the plans. learner.py
adds learning, model.py files, and graph_network.py holds networks that are given as graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_array, as_int, check_out
from fastcnn._progress import walk
from fastcnn.compiler.network import planned_graph
from fastcnn.computing import Computing
from fastcnn.graph.ir import Graph
from fastcnn.graph.trace import Symbol, trace
from fastcnn.io.preprocess import Pixels
from fastcnn.kernels._cpu import threads_of_call
from fastcnn.layers.base import failed_layer
from fastcnn.ops.budget import MAX_BYTES
from fastcnn.plan_cache import Compiled
from fastcnn.scaling import as_inputs, scale, scaling_of, set_scaling
from fastcnn.task import Prediction, as_task, classes_of, most_likely, probabilities

if TYPE_CHECKING:
    from fastcnn.io.image import Preprocess

__all__ = ["Network"]

_FLOAT32 = np.dtype(np.float32)


class Network(Computing):
    """Layers set as attributes, and a ``forward`` of one input and one output: what predicts.

    A call with an array traces ``forward`` once for the array's shape, compiles the graph and runs the plan. Plans of
    the last 8 shapes are kept. Within another network it is a layer like any other. `Model` adds learning and files.

    Attributes
    ----------
    preprocess : fastcnn.io.image.Preprocess, or None
        Turns a photo into an input for `classify`.
    scaling : pair of ndarray (channels,), or None
        Mean and deviation of each channel: the network begins with ``(x - mean) / deviation``. Files hold it as a part
        of the graph.
    task : str, or None
        What the outputs stand for: "single_label" (softmax), "multi_label" (a sigmoid each) or "binary" (one output,
        sigmoid). None: what the last layer tells, else "single_label".

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> class Doubled(Network):
    ...     def __init__(self):
    ...         self.linear = Linear(2, 3)
    ...     def forward(self, x):
    ...         y = self.linear(x)
    ...         return y + y
    >>> Doubled()([[1.0, 2.0], [3.0, 4.0]]).shape
    (2, 3)
    """

    _classes: list[str] | None = None
    _input_shape: tuple[int, ...] | None = None
    _input_type = np.dtype(np.float32)
    _max_bytes: int | None = None  # for one input, where the network comes from a file
    _task: str | None = None
    preprocess: Preprocess | None = None

    # -- what it is for ------------------------------------------------------------------------------

    @property
    def classes(self) -> list[str] | None:
        """Names of the outputs, in order, or None."""
        return None if self._classes is None else list(self._classes)

    @classes.setter
    def classes(self, names: Sequence[str] | None) -> None:
        if names is not None:
            listed = list(names) if _is_sequence(names) else []
            if not listed or not all(isinstance(name, str) for name in listed):
                raise TypeError(f"{type(self).__name__}.classes: expected a sequence of str, one per output")
            names = [str(name) for name in listed]  # plain strings instead of NumPy's
            for name in names:
                if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):
                    raise ValueError(f"{type(self).__name__}.classes: {name!r}, expected text that UTF-8 can hold")
        object.__setattr__(self, "_classes", names)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one input, without the batch axis, or None."""
        return self._input_shape

    @input_shape.setter
    def input_shape(self, shape: Sequence[int] | None) -> None:
        checked = None if shape is None else _checked_shape(shape, type(self).__name__)
        object.__setattr__(self, "_input_shape", checked)

    @property
    def scaling(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean and deviation of each channel of the inputs, by which the network scales them; or None."""
        return scaling_of(self)

    @scaling.setter
    def scaling(self, value: tuple[ArrayLike, ArrayLike] | None) -> None:
        set_scaling(self, value, type(self).__name__)

    @property
    def task(self) -> str | None:
        """What the outputs stand for: "single_label", "multi_label", "binary", or None."""
        return self._task

    @task.setter
    def task(self, value: str | None) -> None:
        object.__setattr__(self, "_task", as_task(value, type(self).__name__))

    def _scales(self) -> bool:
        """Whether inputs are scaled before `forward`."""
        return self.scaling is not None

    def _apply(self, *inputs: Any) -> Any:
        if len(inputs) == 1 and self._scales():
            inputs = (scale(self, inputs[0]),)
        return self.forward(*inputs)

    # -- running --------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, out: np.ndarray | None = None, num_threads: int | None = None) -> Any:
        """Run the network.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            A batch of inputs, for images (N, C, H, W). Inputs are converted to float32, or to the type that an ONNX
            file asks for. While an outer model is traced, a `Symbol` gives a symbol.
        out : ndarray, float32, optional
            C-contiguous, of the output's shape; no memory of `x`. With it, repeated calls allocate nothing.
        num_threads : int, optional
            Threads of this call, 1 to 1024, as in the context `fastcnn.num_threads`; the innermost number counts.

        Returns
        -------
        ndarray, float32
            The output of ``forward``, for a classifier usually (N, classes) scores.

        Raises
        ------
        ValueError
            If the shape does not fit the layers.
        TypeError
            If `x` does not hold real numbers.
        """
        if num_threads is not None:
            with threads_of_call(num_threads):
                return self(*inputs, out=out)
        if len(inputs) == 1:
            y = self._cache.again(inputs[0], out)
            if y is not None:
                return y
        if len(inputs) != 1 or isinstance(inputs[0], Symbol):
            return super().__call__(*inputs)
        x = self._as_batch(inputs[0])
        if len(x) == 0:  # kernels take no empty batch, but the output's shape is known
            return np.empty((0, *self._compiled(1, x).output_shape[1:]), np.float32)
        return self._cache.get(self, x.shape).run(x, out)

    def predict_proba(
        self,
        x: ArrayLike,
        batch_size: int = 32,
        progress: bool = False,
        *,
        out: np.ndarray | None = None,
        num_threads: int | None = None,
    ) -> np.ndarray:
        """Return the probability of each class of inputs in an array; `Model.predict_proba` tells more.

        Parameters
        ----------
        x : array_like (N, ...) of real numbers
            For images (N, C, H, W); also (N, H, W, C) and, of one channel, (N, H, W), where `input_shape` tells them
            apart.
        batch_size, progress, out, num_threads
            As there.

        Examples
        --------
        >>> from fastcnn import Linear, Sequential
        >>> model = Sequential(Linear(2, 4))
        >>> model.predict_proba([[0.5, 1.0]]).sum().round(5).item()
        1.0
        """
        with threads_of_call(num_threads):
            return self._predicted(x, as_int(batch_size, "predict: batch_size", 1), progress, out)

    def _predicted(self, x: ArrayLike, batch_size: int, progress: bool, out: np.ndarray | None) -> np.ndarray:
        if not isinstance(x, Pixels):
            x = as_inputs(x if isinstance(x, np.ndarray) and x.ndim else self._as_batch(x), self._input_shape)
        # All plans at once, so that their weights are of one step even while another thread trains the model.
        sizes = list(dict.fromkeys(filter(None, (min(len(x), batch_size), len(x) % batch_size)))) or [1]
        plans = dict(zip(sizes, self._compiled_all(sizes, self._as_chunk(x[:1])), strict=True))
        shape = next(iter(plans.values())).output_shape
        ending = next(iter(plans.values())).ending
        task, count = classes_of(shape, self._task, ending, self._classes, type(self).__name__)
        result = np.empty((len(x), count), np.float32) if out is None else check_out(out, (len(x), count), _FLOAT32)
        starts = range(0, len(x), batch_size)
        for start in walk(starts, "predicting", True, "batches") if progress else starts:
            chunk = self._as_chunk(x[start : start + batch_size])
            compiled = plans[len(chunk)]
            scores = compiled.run(chunk).reshape(len(chunk), -1)
            part = result[start : start + batch_size]
            part[...] = probabilities(scores, task, ending)
        return result

    def predict(
        self, x: ArrayLike, batch_size: int = 32, progress: bool = False, *, num_threads: int | None = None
    ) -> np.ndarray:
        """Return the most probable class of each input, or its labels.

        Parameters
        ----------
        x, batch_size, progress, num_threads
            As in `predict_proba`.

        Returns
        -------
        ndarray (N,)
            Names of the classes if `classes` is set, otherwise their numbers (int64). If `task` is "multi_label",
            (N, labels) bool: whether the probability is above one half.

        Examples
        --------
        >>> from fastcnn import Linear, Sequential
        >>> model = Sequential(Linear(1, 2))
        >>> model[0].weight, model[0].bias = [[1], [-1]], [0, 0]
        >>> model.predict([[3], [-3]])
        array([0, 1])
        >>> model.classes = ["plus", "minus"]
        >>> model.predict([[3], [-3]]).tolist()
        ['plus', 'minus']
        """
        with threads_of_call(num_threads):
            return most_likely(self.predict_proba(x, batch_size, progress), self._task, self._classes)

    def classify(self, image: Any, top: int = 5, *, num_threads: int | None = None) -> list[Prediction]:
        """Classify a photo.

        Parameters
        ----------
        image : path, bytes, PIL image or ndarray (H, W, 3) uint8
            A photo in any form that `preprocess` takes.
        top : int
            Number of classes to return.
        num_threads : int, optional
            Threads of this call, 1 to 1024.

        Returns
        -------
        list of Prediction
            (index, label, probability), the most probable first. Without `classes` the label is the number.

        Raises
        ------
        ValueError
            If the network has no `preprocess`.

        Examples
        --------
        >>> from fastcnn import zoo
        >>> model = zoo.lenet(num_classes=2)
        >>> model.preprocess = lambda photo: photo[None, None]
        >>> len(model.classify(np.zeros((28, 28), np.float32)))
        2
        """
        top = as_int(top, "classify: top", 0)
        if self.preprocess is None:
            raise ValueError(f"classify: set {type(self).__name__}.preprocess first, or use predict_proba")
        if self._takes_pixels(self.preprocess):
            x: Any = Pixels(self.preprocess.pixels(image)[None], self.preprocess)
        else:
            x = self.preprocess(image)
        with threads_of_call(num_threads):
            return self._most_probable(self.predict_proba(x)[0], top)

    def _most_probable(self, probabilities: np.ndarray, top: int) -> list[Prediction]:
        best = np.argsort(-probabilities, kind="stable")[:top].tolist()
        names = self._classes or [str(i) for i in range(len(probabilities))]
        return [Prediction(i, names[i], float(probabilities[i])) for i in best]

    def _as_batch(self, x: ArrayLike) -> np.ndarray:
        kind = self._input_type
        if type(x) is np.ndarray and x.dtype == kind and x.ndim and x.flags.c_contiguous and x.flags.aligned:
            return x
        array = as_array(x, f"{type(self).__name__}: x")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{type(self).__name__}: x.dtype={array.dtype}, expected a real number type")
        if array.ndim == 0:
            raise ValueError(f"{type(self).__name__}: x.shape=(), expected a batch of inputs, (N, ...)")
        array = np.ascontiguousarray(array, kind)
        return array if array.flags.aligned else array.copy()

    def _as_chunk(self, x: ArrayLike | Pixels) -> np.ndarray | Pixels:
        return x if isinstance(x, Pixels) else self._as_batch(x)

    def _takes_pixels(self, preprocess: Any) -> bool:
        """Whether `predict_proba` takes `Pixels`: neither it nor the preprocessing is overridden."""
        from fastcnn.io.image import Preprocess

        function = getattr(self.predict_proba, "__func__", None)
        return getattr(function, "__module__", "").startswith("fastcnn.") and type(preprocess) is Preprocess

    def _compiled(self, batch: int, x: np.ndarray | Pixels) -> Compiled:
        return self._compiled_all([batch], x)[0]

    def _compiled_all(self, batches: Sequence[int], x: np.ndarray | Pixels) -> list[Compiled]:
        shapes = [(batch, *x.shape[1:]) for batch in batches]
        return self._cache.get_all(self, shapes, x.preprocess if isinstance(x, Pixels) else None)

    # -- what it is ----------------------------------------------------------------------------------

    def graph(self, input_shape: Sequence[int] | None = None) -> Graph:
        """Return the network as a graph of ONNX operators.

        Parameters
        ----------
        input_shape : sequence of int, optional
            Shape of one input, without the batch axis; default `self.input_shape`.

        Returns
        -------
        Graph
            Its constants are the network's parameters, under their state-dict names.

        Raises
        ------
        ValueError
            If there is no shape, or it does not fit the layers.

        Examples
        --------
        >>> from fastcnn import Linear, ReLU, Sequential
        >>> [node.op for node in Sequential(Linear(2, 3), ReLU()).graph((2,)).nodes]
        ['Gemm', 'Relu']
        """
        return self._read(lambda: self._stored_graph(input_shape))

    def _kernel_graph(self, input_shape: Sequence[int]) -> Graph:
        """`graph` as one plan computes it, which is what is trained, tuned and cut."""
        graph = self._read(lambda: self._traced(input_shape))
        return planned_graph(graph, tuple(input_shape), self._max_bytes or MAX_BYTES)

    def _is_quantized(self) -> bool:
        """Whether the graph has integers that stand for float32 numbers."""
        return False

    def _begin_training(self) -> None:
        """Hold what learns as float32 parameters; networks of integers do not yet."""

    def _training_graph(self, input_shape: Sequence[int]) -> Graph:
        """`graph` as it learns."""
        return self._kernel_graph(input_shape)

    def _read(self, make: Callable[[], Graph]) -> Graph:
        """Return what `make` gives, all of its constants in memory and of one training step."""

        def read() -> Graph:
            self.state_dict()  # reads what lies in a file
            return make()

        return self._settled(read)

    def _stored_graph(self, input_shape: Sequence[int] | None = None) -> Graph:
        """`graph`, in which constants that lie in a file stay there."""
        return self._traced(input_shape)

    def _traced(self, input_shape: Sequence[int] | None) -> Graph:
        """What `forward` does with a symbol."""
        name = type(self).__name__
        shape = self._input_shape if input_shape is None else _checked_shape(input_shape, name)
        if shape is None:
            raise ValueError(f"{name}: input_shape is not set, expected a shape such as (3, 32, 32)")
        try:
            return self._settled(lambda: trace(self, shape))
        except (ValueError, TypeError) as error:
            layer = failed_layer(error)
            path = next((path for path, known in self.named_layers() if path and known is layer), None)
            if path is None:
                raise
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"layer {path!r} ({type(layer).__name__}): {error}") from error


def _is_sequence(value: Any) -> bool:
    is_array = isinstance(value, np.ndarray) and value.ndim == 1
    return is_array or (isinstance(value, Sequence) and not isinstance(value, (str, bytes)))


def _checked_shape(shape: Sequence[int], owner: str) -> tuple[int, ...]:
    sizes = tuple(shape) if _is_sequence(shape) else ()
    if not sizes or not all(isinstance(size, (int, np.integer)) and size > 0 for size in sizes):
        raise ValueError(f"{owner}: input_shape={shape!r}, expected positive ints, without the batch axis")
    return tuple(int(size) for size in sizes)

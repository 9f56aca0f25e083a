"""Models: networks that learn, are looked into, quantised, and written to files; given as code or as a graph.

network.py predicts, graph_network.py does so with a graph. learner.py and training/ learn, inspection.py looks inside,
quantization/ quantises, model_format.py and io/ write files, and loading.py reads them. Modules that few programs need
are imported where they are used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastcnn.graph_network import GraphNetwork
from fastcnn.inspection import Inspectable
from fastcnn.ops.budget import MAX_BYTES
from fastcnn.task import Prediction

if TYPE_CHECKING:
    from fastcnn.layers.initial import RandomSource
    from fastcnn.quantization.report import QuantizationReport

__all__ = ["GraphModel", "Model", "Prediction"]


class Model(Inspectable):
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

    # -- fewer bits -----------------------------------------------------------------------------------

    def quantize(
        self,
        calibration: Any,
        *,
        method: str = "minmax",
        percentile: float = 99.99,
        samples: int = 256,
        skip: str | Sequence[str] = (),
        max_drop: float | None = None,
        validation: Any = None,
        equalize: bool = True,
        correct_bias: bool = True,
        fuse_sums: bool = True,
        progress: bool | None = None,
        on_error: str = "skip",
    ) -> GraphModel:
        """Return the network in 8 bits: uint8 activations, int8 weights with a scale for each output.

        Batch norms are folded into weights first. The result predicts, is saved and exported as others are, and
        learns on with `fit`. Its output stays float32.

        Parameters
        ----------
        calibration : array_like (N, ...), folder, sequence of photos, iterable, or data set
            Typical inputs, as for `predict_proba`; some hundred are usual. Ranges of values are found with them.
        method : {"minmax", "percentile", "entropy", "mse"}
            What range 8 bits stand for: that of all values, of `percentile` percent of them, the one that keeps their
            distribution, or the one with the least squared error.
        percentile : float
            For that method.
        samples : int
            The most inputs that are taken. They come from everywhere in the data, of iterables from the beginning.
        skip : str or sequence of str
            Layers that stay float32: names, patterns such as "layer4.*", or names of layers around them.
        max_drop : float, optional
            Points that may be lost: of accuracy on `validation`, or else of agreement with float32. The layers that 8
            bits hurt most are put back to float32 until the drop holds; `quantization.float_layers` names them.
        validation : (x, y), or any `x` that tells its labels, optional
            As for `evaluate`. The report then tells the accuracy in 8 bits and in float32.
        equalize : bool
            Let channels before and behind depthwise convolutions have similar ranges, where a ReLU or nothing lies
            between.
        correct_bias : bool
            Let biases make up for what rounded weights add on average.
        fuse_sums : bool
            Leave the output of a convolution float32 where it is only added to another value: more exact, and faster
            here and in OpenVINO. ONNX Runtime computes these convolutions in 8 bits only with False.
        progress, on_error
            As for `fit`.

        Returns
        -------
        GraphModel
            It computes what QuantizeLinear and DequantizeLinear of ONNX mean. Its attribute ``quantization`` is a
            `fastcnn.quantization.QuantizationReport`: ``print`` shows range, clipped share and signal to noise of each
            layer, and what is lost. ``plot(path)`` draws it.

        Raises
        ------
        ValueError, TypeError
            Naming the argument that is wrong; if the network is quantised already, or has nothing to quantise.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import zoo
        >>> model = zoo.lenet(rng=0)
        >>> images = np.random.default_rng(0).random((32, 1, 28, 28))
        >>> small = model.quantize(images, method="mse")
        >>> [layer.type for layer in small.quantization.layers]
        ['int8', 'int8', 'int8', 'int8', 'int8']
        """
        settings = {name: value for name, value in locals().items() if name not in ("self", "calibration")}
        from fastcnn.quantization.quantize import Settings, quantize

        graph, buffers, report = quantize(self, calibration, Settings(**settings))
        model = GraphModel(graph, buffers, self._max_bytes)
        ((_, *shape),) = graph.inputs.values()
        model.input_shape = self.input_shape or [size for size in shape if size is not None]
        model.classes, model.preprocess, model.task = self.classes, self.preprocess, self.task
        model.quantization = report
        return model

    def astype(self, dtype: str) -> Model:
        """Return a copy whose weights are of another type.

        Parameters
        ----------
        dtype : {"bfloat16", "float32"}
            "bfloat16" rounds weights to 8 significant bits, half to even; biases and normalisations stay float32. Files
            of `save` take half the space. Convolutions and linear layers may multiply in bfloat16, see `dtype`.

        Returns
        -------
        Model
            It learns in float32, and files round its weights again.

        Raises
        ------
        ValueError
            If the type is another one, or the network is in 8 bits.

        Examples
        --------
        >>> from fastcnn import Linear, Sequential
        >>> model = Sequential(Linear(1, 1))
        >>> model[0].weight = [[1.001]]
        >>> half = model.astype("bfloat16")
        >>> half.dtype, half[0].weight.item()
        ('bfloat16', 1.0)
        """
        from fastcnn.model_format import as_type

        return as_type(self, dtype)

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


class GraphModel(GraphNetwork, Model):
    """A model given as a graph instead of Python code, such as `fastcnn.load` returns.

    Parameters
    ----------
    graph, buffers, max_bytes
        As for `GraphNetwork`.

    Attributes
    ----------
    quantization : fastcnn.quantization.QuantizationReport, or None
        What `quantize` has found, of the model that it has returned. Files do not hold it.

    Examples
    --------
    >>> from fastcnn import Linear, Sequential
    >>> model = GraphModel(Sequential(Linear(2, 3)).graph((2,)))
    >>> model
    GraphModel(1 nodes, input ('N', 2))
    >>> history = model.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=1)
    """

    quantization: QuantizationReport | None = None  # of what `quantize` has made
    _estimator: str | None = None  # what a file tells of the classifier around the model: estimator_file.py's

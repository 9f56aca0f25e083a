"""Computations that are prepared once and run many times: compiled, with packed weights and memory of their own.

A `Prepared` computes into arrays that the caller gives, and then allocates nothing. The C API (include/fastcnn/capi.h)
runs the same plans without Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_int, as_real_array, check_out, check_overlap
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.network import compile_network
from fastcnn.compiler.plan import Plan
from fastcnn.compiler.state import Strides
from fastcnn.graph.ir import Shape
from fastcnn.graph.trace import trace_function
from fastcnn.kernels._call import Call
from fastcnn.kernels._cpu import threads_of_call
from fastcnn.network import Network

__all__ = ["Prepared", "prepare", "prepare_strided"]


class Prepared:
    """A computation for inputs of fixed shapes; `prepare` makes it.

    It keeps the weights that it was prepared with. Several threads may call it at once.

    Attributes
    ----------
    input_shapes : tuple of tuple of int
    output_shape : tuple of int
    arena_bytes : int
        Memory of one call, inputs, weights and output not counted.
    kernels : list of str
        The kernel of each step, in their order.
    """

    def __init__(self, plan: Plan, input_shapes: Sequence[Shape]) -> None:
        self._plan, self.input_shapes = plan, tuple(input_shapes)
        first, *rest = plan.output_shapes[0]
        self.output_shape: Shape = (first * plan.parts, *rest)
        self.arena_bytes = plan.arena_bytes
        self.kernels = [step.kernel for step in plan.steps]

    def __call__(self, *inputs: ArrayLike, out: np.ndarray | None = None, num_threads: int | None = None) -> np.ndarray:
        """Compute the output.

        Parameters
        ----------
        *inputs : array_like
            Of `input_shapes`. Float32 and C-contiguous arrays are read where they are; others are converted.
        out : float32 array, optional
            C-contiguous, of `output_shape`; no memory of an input. With it, a call allocates nothing.
        num_threads : int, optional
            Threads of this call, 1 to 1024, as in the context `fastcnn.num_threads`.

        Returns
        -------
        float32 array
            `out`, where it is given.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what was prepared for.
        """
        if num_threads is not None:
            with threads_of_call(num_threads):
                return self(*inputs, out=out)
        if len(inputs) != len(self.input_shapes):
            raise TypeError(f"Prepared: got {len(inputs)} inputs, expected {len(self.input_shapes)}")
        pairs = zip(inputs, self.input_shapes, strict=True)
        arrays = [_as_input(array, shape, i) for i, (array, shape) in enumerate(pairs)]
        if out is None:
            return self._plan.run(arrays)[0]
        check_out(out, self.output_shape, np.dtype(np.float32))
        check_overlap(out, arrays, False)
        self._plan.run(arrays, [out])
        return out

    def call(self, threads: int) -> Call:
        """The computation for a caller without Python, with memory for at most `threads` threads."""
        return self._plan.call([prod(shape) for shape in self.input_shapes], threads)


def prepare(function: Network | Callable[..., Any], *input_shapes: Sequence[int]) -> Prepared:
    """Compile a network or a function for inputs of given shapes, to be run many times.

    Parameters
    ----------
    function : Model or callable
        A callable takes as many values as there are shapes, and computes one value of them with functions of
        `fastcnn.functional`. Arrays that it uses are packed as weights; operations are fused as in a model.
    *input_shapes : sequence of int
        With the batch.

    Returns
    -------
    Prepared

    Raises
    ------
    TypeError
        If the function looks at numbers, or returns something else than one value computed from the inputs.
    ValueError
        If shapes do not fit, or no single plan can hold a network.

    Examples
    --------
    >>> import fastcnn as fc
    >>> from fastcnn import functional as F
    >>> weight = np.ones((8, 3, 3, 3), np.float32)
    >>> layer = fc.prepare(lambda x: F.relu(F.conv2d(x, weight, padding=1)), (1, 3, 32, 32))
    >>> out = np.empty(layer.output_shape, np.float32)
    >>> round(float(layer(np.ones((1, 3, 32, 32), np.float32), out=out)[0, 0, 0, 0]), 3)
    12.0
    """
    if not callable(function):
        raise TypeError(f"prepare: function: got {type(function).__name__}, expected a Model or a function")
    if isinstance(function, Network):
        shapes = _as_shapes(input_shapes)
        return Prepared(_plan_of(function, shapes), shapes)
    return prepare_strided(function, input_shapes, [])


def prepare_strided(
    function: Callable[..., Any], input_shapes: Sequence[Sequence[int]], strides: Sequence[Strides | None]
) -> Prepared:
    """As `prepare`, for strided arrays from C. Convolution, its gradients, pooling and activation take them.

    `strides` are of each input and then of the output, in floats, from one image, channel and row to the next. None
    stands for a contiguous array.

    Examples
    --------
    >>> from fastcnn import functional as F
    >>> prepare_strided(F.relu, [(2, 3, 8, 8)], [(300, 100, 10), None]).kernels
    ['relu']
    >>> prepare_strided(F.relu, [(2, 3, 8, 8)], [None, (100, 10, 4)])
    Traceback (most recent call last):
    ValueError: y: strides (100, 10, 4) let values of shape (2, 3, 8, 8) overlap
    """
    shapes = _as_shapes(input_shapes)
    names = {f"x{i}": shape for i, shape in enumerate(shapes)}
    graph = trace_function(function, names)
    for shape, given in zip(shapes, strides, strict=False):
        if given is not None and min(given) < 0:
            raise ValueError(f"x: strides {given}, expected numbers >= 0 for shape {shape}")
    if strides and strides[-1] is not None:
        _check_strides(graph.infer(names)[graph.outputs[0]], strides[-1])
    return Prepared(compile_graph(graph, names, strides=strides), shapes)


def _check_strides(shape: Shape, strides: Strides) -> None:
    """Refuse strides by which two values of an output share memory."""
    reach = 0  # floats from the first value to the last one, of the dimensions so far
    for stride, size in sorted(zip((*strides, 1), shape, strict=True)):
        if size > 1 and stride <= reach:
            raise ValueError(f"y: strides {strides} let values of shape {shape} overlap")
        reach += (size - 1) * stride


def _as_shapes(shapes: Sequence[Sequence[int]]) -> list[Shape]:
    if not shapes:
        raise TypeError("prepare: got no shape, expected one for each input")
    return [_as_shape(shape, f"prepare: input_shapes[{i}]") for i, shape in enumerate(shapes)]


def _as_shape(shape: Sequence[int], name: str) -> Shape:
    sizes = np.asarray(shape, object)
    if sizes.ndim != 1:
        raise TypeError(f"{name}: got {type(shape).__name__}, expected a shape such as (1, 3, 224, 224)")
    return tuple(as_int(size, name, 1) for size in sizes)


def _plan_of(network: Network, shapes: Sequence[Shape]) -> Plan:
    if len(shapes) != 1:
        raise TypeError(f"prepare: got {len(shapes)} shapes, expected one: {type(network).__name__} takes one input")
    graph = network.graph(shapes[0][1:])
    given = dict.fromkeys(graph.inputs, shapes[0])
    compiled = compile_network(
        graph,
        given,
        tuning=network.tuning,
        reproducible=network.reproducible,
        max_bytes=network._max_bytes,
        strict=network.strict,
        bfloat16=network.dtype == "bfloat16",
    )
    if not isinstance(compiled.plan, Plan):
        raise ValueError(
            "prepare: this network runs as several plans, as a shape depends on values, or its input or output is not "
            "float32: expected operations that one plan computes"
        )
    return compiled.plan


def _as_input(value: ArrayLike, shape: Shape, i: int) -> np.ndarray:
    if not (isinstance(value, np.ndarray) and value.dtype == np.float32 and value.flags.carray):
        value = np.require(as_real_array(value, f"Prepared: inputs[{i}]"), np.float32, ["C", "A"])
    if value.shape != shape:
        raise ValueError(f"Prepared: inputs[{i}] has shape {value.shape}, expected {shape}")
    return value

"""The result of compiling a network: something that runs, and what its users must know of the graph.

`Plan` (plan.py) and `MixedPlan` (mixed.py) run; code outside the compiler does not tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from fastcnn._record import record
from fastcnn.compiler.lower import StepInfo
from fastcnn.graph.ir import Graph, Shape, last_function
from fastcnn.kernels._repeat import Repeat

__all__ = ["CompiledNetwork", "Runnable", "ending"]


class Runnable(Protocol):
    """A compiled network, whatever computes its steps."""

    @property
    def steps(self) -> list[StepInfo]:
        """The steps of one part of the batch, in the order in which they run."""

    @property
    def operations(self) -> int:
        """Floating point operations of one run."""

    @property
    def arena_bytes(self) -> int:
        """Memory of one concurrent caller; inputs, weights and outputs do not count."""

    @property
    def parts(self) -> int:
        """The number of parts into which a batch is cut."""

    @property
    def takes_pixels(self) -> bool:
        """Whether inputs come as pixels, uint8 (N, H, W, C)."""

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """Run on a batch; several Python threads may do so at once."""

    def times(self, inputs: Sequence[np.ndarray], repeats: int) -> list[list[float]]:
        """The seconds of each step, in each of `repeats` runs of one part of the batch."""

    def threads(self) -> int:
        """The most threads that the next run uses."""

    def repeat(self, shape: tuple[int, ...]) -> Repeat | None:
        """The shortest way to run on inputs of one shape; None if there is none."""


@record
class CompiledNetwork:
    """A network, compiled for inputs of given shapes.

    Attributes
    ----------
    plan : Runnable
    graph : Graph
        The operations that run, before the compiler's passes.
    shapes : dict
        Shape of every value of that graph; None if it depends on values. A graph of a fixed batch size has the shapes
        of one part of the batch.
    output_shape : tuple of int
        Shape of the output for the requested batch; () if it depends on values.
    ending : str
        See `ending`.
    """

    plan: Runnable
    graph: Graph
    shapes: Mapping[str, Shape | None]
    output_shape: Shape
    ending: str


def ending(graph: Graph) -> str:
    """The operation that a graph ends in, without its domain; changes of shape do not count.

    Examples
    --------
    >>> from fastcnn.graph.ir import Node
    >>> ending(Graph([Node("ai.onnx::Softmax", "s", ("x",), "y", {})], {"x": (None, 4)}, ["y"], {}))
    'Softmax'
    """
    last = last_function(graph)
    return "" if last is None else last.op.rpartition(":")[2]

"""Islands: general operations that NumPy computes within a plan, as one operation of kernels' graphs.

compiler/islands.py makes them. What lies between the operations of an island may be of any type. At its border are
float32 values alone. The thread that called the run computes it (see kernels/_evaluate).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

import numpy as np

from fastcnn.kernels import _evaluate
from fastcnn.ops.budget import Budget
from fastcnn.ops.general import General
from fastcnn.ops.island_grad import SLOPES, InNumpyGrad
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

__all__ = ["InNumpy", "Island", "NoGradient"]

# Operations whose first axis is the batch, and those that work along the attribute `axis`.
_BY_IMAGE = (
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "LRN", "DepthToSpace", "SpaceToDepth", "Resize"),
    *("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "BatchNormalization", "InstanceNormalization"),
    *("GroupNormalization", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"),
)
_ALONG_AXIS = (
    *("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "LayerNormalization", "RMSNormalization"),
    *("Concat", "Split", "Gather", "GatherElements", "ArgMax", "ArgMin", "TopK"),
)


class NoGradient(ValueError):
    """An operation has no gradient. Its arguments are the fact, and what to do about it in training."""

    def __str__(self) -> str:
        return ", ".join(map(str, self.args))


@dataclass(frozen=True, eq=False)
class Island:
    """The attribute ``island`` of `InNumpy`.

    Attributes
    ----------
    nodes : tuple of Node
        General operations, of which the last computes the output.
    inputs : tuple of str
        What the nodes call the inputs of the island.
    constants : dict of str to ndarray
        What else the nodes read.
    max_bytes : int
        The most bytes that a run may take for each image.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray]
    max_bytes: int
    _found: dict[Shapes, tuple[Shape, int]] = field(default_factory=dict)
    _ranks: dict[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The node of the output, for messages."""
        return f"node {self.nodes[-1].name!r} ({self.nodes[-1].op})"

    @property
    def keeps_images_apart(self) -> bool:
        """Whether each image of a batch is certainly computed without the others, unless shapes tell otherwise."""
        if all(_kind(node).by_element for node in self.nodes):
            return True
        return len(self.nodes) == 1 and self._keeps_first_axis(self.nodes[0])

    def _keeps_first_axis(self, node: Node) -> bool:
        """Whether a node computes the elements along the first axis one by one, or leaves them where they are."""
        name, attrs = node.op.rpartition(":")[2], {**node.kind.defaults, **node.attrs}
        if name in _BY_IMAGE:
            return not attrs.get("training_mode")
        if name == "MatMul":
            return min(self._ranks.get(name, 0) for name in node.inputs) > 2
        if name.startswith("Reduce"):
            axes = self.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        else:
            axes = np.array([attrs["axis"]]) if name in _ALONG_AXIS else None
        rank = self._ranks.get(node.inputs[0], 0)
        return axes is not None and axes.size > 0 and rank > 0 and bool((axes % rank != 0).all())

    def result(self, shapes: Shapes) -> tuple[Shape, int]:
        """Shape of the output for inputs of known shapes, and operations of a run."""
        found = self._found.get(shapes)
        if found is None:
            found = self._found[shapes] = self._infer(shapes)
        return found

    def note(self, shapes: Mapping[str, Shape | None]) -> None:
        """Take over the shapes of all values, which are known for inputs of some shapes."""
        work = sum(_operations(node, shapes) for node in self.nodes)
        self._found[tuple(shapes[name] for name in self.inputs)] = shapes[self.nodes[-1].output] or (), work
        self._ranks.update({name: len(shape) for name, shape in shapes.items() if shape is not None})

    def _infer(self, shapes: Shapes) -> tuple[Shape, int]:
        budget = self._budget(shapes)
        values = dict(self.constants)
        for name, shape in zip(self.inputs, shapes, strict=True):
            assert shape is not None
            values[name] = np.broadcast_to(np.float32(0), shape)
        for node in self.nodes:
            operands = [values[name] if name else None for name in node.inputs]
            try:
                shape, dtype = _kind(node).result(node.attrs, operands, budget)
            except ValueError as error:
                raise ValueError(f"{self._named(node)}{error}") from None
            values[node.output] = np.broadcast_to(np.zeros((), dtype), shape)
        last = values[self.nodes[-1].output]
        if last.dtype != np.float32 or last.size == 0:
            raise ValueError(f"{last.dtype} {last.shape}, expected float32 with elements")
        known = {name: value.shape for name, value in values.items()}
        return last.shape, sum(_operations(node, known) for node in self.nodes)

    def run(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Compute the output."""
        budget = self._budget([array.shape for array in arrays])
        values = {**self.constants, **dict(zip(self.inputs, arrays, strict=True))}
        for node in self.nodes:
            operands = [values[name] if name else None for name in node.inputs]
            try:
                values[node.output] = _kind(node).evaluate(node.attrs, operands, budget)
            except ValueError as error:
                raise ValueError(f"node {node.name!r} ({node.op}): {error}") from None
        return values[self.nodes[-1].output]

    def _named(self, node: Node) -> str:
        """The beginning of a message that names a node; that of the output is named by others."""
        return "" if node is self.nodes[-1] else f"node {node.name!r} ({node.op}): "

    def _budget(self, shapes: Shapes) -> Budget:
        return Budget.of_a_run(self.max_bytes, max([1, *(shape[0] for shape in shapes if shape)]))


def _operations(node: Node, shapes: Mapping[str, Shape | None]) -> int:
    """Operations of a node: one for each element, or the inner axis of a product."""
    inner = shapes[node.inputs[0]] if node.op.endswith("::MatMul") else None
    return prod(shapes[node.output] or ()) * (2 * inner[-1] if inner else 1)


def _kind(node: Node) -> General:
    kind = node.kind
    assert isinstance(kind, General)
    return kind


class InNumpy(Op):
    """An `Island` as one operation. Its inputs are those of the island, in their order."""

    name = "InNumpy"
    variadic = True
    required = 0
    is_internal = True
    reasons = {"numpy": "this operation has no kernel for these operands"}

    def check(self, attrs: Attrs, inputs: Sequence[str]) -> None:
        island = attrs.get("island")
        if not isinstance(island, Island) or len(attrs) > 1 or len(island.inputs) != len(inputs):
            raise ValueError("only the compiler makes this operation")

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        island: Island = attrs["island"]
        return island.result(tuple(shapes))[0]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        island: Island = attrs["island"]
        return island.run([np.asarray(x, np.float32) for x in inputs]).astype(np.float64)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        island: Island = attrs["island"]
        return island.result(tuple(shapes))[1]

    def keeps_images_apart(self, attrs: Attrs) -> bool:
        island: Island = attrs["island"]
        return island.keeps_images_apart

    def gradient(self, node: Node, grad: str, back: Backward) -> Sequence[str | None]:
        island: Island = node.attrs["island"]
        last = island.nodes[-1]
        kind, settings = last.op.rpartition(":")[2], {**last.kind.defaults, **last.attrs}
        if kind in SLOPES and island.inputs == last.inputs and settings.get("axis") is None:
            return [
                back.add("InNumpyGrad", grad, *node.inputs, activation=kind, settings=settings, of=i)
                if back.needs(name)
                else None
                for i, name in enumerate(node.inputs)
            ]
        raise NoGradient(
            f"{island.title} has no gradient",
            "which the layers before it need: freeze them (Layer.freeze), or train the layers behind it",
        )

    def lower(self, node: Node, ctx: Lowering) -> None:
        island: Island = node.attrs["island"]
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        shapes = [ctx.shape(name) for name in (node.output, *node.inputs)]
        ctx.emit("numpy", partial(_evaluate.Evaluate, island.run, shapes), *views)


OPS = [InNumpy(), InNumpyGrad()]

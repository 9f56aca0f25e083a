"""Where the arrays of a training lie in blocks of memory, which several processes may share.

The state is one block: parameters, running statistics and the optimizer's running means. What a shard gives is another
one, a slot: gradients and the statistics of batch normalisation. Buckets are parts of a slot, in the order in which the
backward pass completes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from fastcnn.graph.ir import Shape
from fastcnn.kernels.storage import ALIGNMENT
from fastcnn.training.step import StepGraph
from fastcnn.training.updating import GATHERED, Updating

__all__ = ["Bucket", "Layout", "Places", "layout_of"]

_BUCKETS = 8  # of gradients, at most
_LEAST = 1 << 18  # floats: smaller buckets take longer to hand on than to sum


class Places:
    """Names of arrays, and where they lie in a block.

    Parameters
    ----------
    shapes : dict of str to tuple of int
        As the arrays are stored.

    Attributes
    ----------
    floats : int
        Size of a block.

    Examples
    --------
    >>> places = Places({"a": (3,), "b": (2, 2)})
    >>> block = np.zeros(places.floats, np.float32)
    >>> places.view(block, "b")[:] = 1
    >>> places.start("b"), block.sum()
    (16, np.float32(4.0))
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._places: dict[str, tuple[int, Shape]] = {}
        end = 0
        for name, shape in shapes.items():
            self._places[name] = end, shape
            end += -(-prod(shape) // ALIGNMENT) * ALIGNMENT
        self.floats = end

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def start(self, name: str) -> int:
        """Return where an array begins."""
        return self._places[name][0]

    def view(self, block: np.ndarray, name: str) -> np.ndarray:
        """Return an array of a block."""
        start, shape = self._places[name]
        return block[start : start + prod(shape)].reshape(shape)

    def views(self, block: np.ndarray) -> dict[str, np.ndarray]:
        """Return all arrays of a block."""
        return {name: self.view(block, name) for name in self._places}


class Bucket(NamedTuple):
    """A part of a slot, and of the state that follows it.

    Attributes
    ----------
    names : tuple of str
        Parameters, or running statistics.
    start, stop : int
        Floats of a slot.
    has_statistics : bool
        Whether the names are running statistics.
    """

    names: tuple[str, ...]
    start: int
    stop: int
    has_statistics: bool


@dataclass(frozen=True)
class Layout:
    """How a training is stored.

    Attributes
    ----------
    state, slot : Places
    buckets : tuple of Bucket
    forms : dict of str to (tuple of int, bool)
        Shape of each array of the state, and whether it is stored as a parameter.
    trained : tuple of str
        Parameters, in the order of the network.
    momenta : dict of str to float
        Of running statistics.
    first : dict of str to ndarray
        First values of the network's part of the state.
    """

    state: Places
    slot: Places
    buckets: tuple[Bucket, ...]
    forms: dict[str, tuple[Shape, bool]]
    trained: tuple[str, ...]
    momenta: dict[str, float]
    first: dict[str, np.ndarray]


def stored_shape(shape: Shape, is_packed: bool, vl: int) -> Shape:
    """Return the shape in which an array is stored: blocks of `vl` outputs, where it is a parameter."""
    return (-(-shape[0] // vl) * vl * prod(shape[1:]),) if is_packed else shape


def layout_of(step: StepGraph, momenta: Mapping[str, float], updating: Updating, vl: int) -> Layout:
    """Lay out what a training needs.

    Parameters
    ----------
    step : StepGraph
        Which gathers gradients and does not apply them.
    momenta : dict of str to float
        Of running statistics, by the name of the running mean.
    updating : Updating
        Which applies them.
    vl : int
        Length of vectors.
    """
    own = [name for name in step.state if "@" not in name]
    statistics = _momenta(step, momenta)
    means = [*updating.means(), GATHERED]
    forms = {name: (step.shapes[name], name in step.packed) for name in own}
    forms |= {f"{name}@{mean}": forms[name] for name in step.trained for mean in dict.fromkeys(means)}
    order = [node.output for node in step.graph.nodes]
    done = {name: order.index(grad) for name, grad in gradients_of(step).items()}
    given = [*statistics, *sorted(step.trained, key=lambda name: done[name])]
    stored = {name: stored_shape(*form, vl) for name, form in forms.items()}
    slot = Places({name: stored[name] for name in given})
    buckets = _buckets(slot, list(statistics), given[len(statistics) :])
    return Layout(Places(stored), slot, buckets, forms, tuple(step.trained), statistics, step.constants)


def gradients_of(step: StepGraph) -> dict[str, str]:
    """Return the gradient of each parameter, in a step that gathers gradients."""
    suffix = f"@{GATHERED}"
    found = {node.inputs[0]: node.inputs[1] for node in step.graph.nodes if node.op == "Update"}
    return {name.removesuffix(suffix): grad for name, grad in found.items() if name.endswith(suffix)}


def _momenta(step: StepGraph, momenta: Mapping[str, float]) -> dict[str, float]:
    """The momentum of each running statistic: mean and variance of a layer share the batch's statistics."""
    updates = [node for node in step.graph.nodes if node.op == "RunningUpdate"]
    of_stats = {node.inputs[1]: momenta[node.inputs[0]] for node in updates if node.inputs[0] in momenta}
    return {node.inputs[0]: of_stats[node.inputs[1]] for node in updates}


def _buckets(slot: Places, statistics: Sequence[str], gradients: Sequence[str]) -> tuple[Bucket, ...]:
    """Running statistics are a bucket; gradients are as many as are worth the while."""
    starts = [slot.start(name) for name in gradients] + [slot.floats]
    first = starts[0]
    buckets = [Bucket(tuple(statistics), 0, first, True)] if statistics else []
    size = max(_LEAST, -(-(slot.floats - first) // _BUCKETS))
    begun = 0
    for i in range(1, len(starts)):
        if starts[i] - starts[begun] >= size or i == len(gradients):
            buckets.append(Bucket(tuple(gradients[begun:i]), starts[begun], starts[i], False))
            begun = i
    return tuple(buckets)

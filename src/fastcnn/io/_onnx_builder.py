"""Makes the nodes of our graph from those of an ONNX file. Bodies of control flow and functions become part of it.

_onnx_control.py unrolls and inlines; _onnx_dialect.py and _onnx_contrib.py convert single nodes. onnx_import.py reads
the rest of the file.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastcnn.compiler.ahead import PROBES
from fastcnn.compiler.resolve import Growing
from fastcnn.compiler.rewriter import Known
from fastcnn.errors import ModelLoadError
from fastcnn.graph.ir import Node
from fastcnn.io._onnx_contrib import EXPANSIONS
from fastcnn.io._onnx_dialect import RawNode, normalise
from fastcnn.io._onnx_expansion import Expansion
from fastcnn.io._onnx_known import MAX_NODES, STANDARD, Functions, key_of
from fastcnn.io._onnx_tensor import TensorReader
from fastcnn.ops.budget import NODE_BYTES, Budget, Cost
from fastcnn.ops.general import DOMAIN, TABLE, General

_ITEM_BYTES = 64  # the most bytes of a number or text in an attribute's tuple, without the text itself
_KINDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings"}  # onnx.proto
_EMPTY = inspect.Parameter.empty

Shape = tuple[int | None, ...]
# From the builder, a node, its scope and its attributes to the values of its outputs.
Control = Callable[["Builder", Any, "Scope", dict[str, Any]], list[str]]

# Batch sizes for which a condition must be the same to be known; many conditions ask whether the size is 1.
CONDITION_BATCHES = (1, 3)


class _Placed(ModelLoadError):
    """An error that names a node: the outermost and the innermost are told."""


class Names:
    """Names that are taken. Finding a free name takes the same time however often a name is repeated."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._asked: Counter[str] = Counter()

    def fresh(self, name: str) -> str:
        """Return the name, or the first free name with a number appended."""
        found = name
        while found in self._taken:
            self._asked[name] += 1
            found = f"{name}_{self._asked[name] + 1}"
        self._taken.add(found)
        return found


class Scope:
    """The values that the nodes of a graph, a body or a function see, by their names in the file.

    Parameters
    ----------
    opset : int
    outer : Scope, optional
        A body sees the values around it; a function does not.
    attributes : dict, optional
        The attributes of a function's call, which its nodes refer to.
    """

    def __init__(self, opset: int, outer: Scope | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        self.opset, self.outer = opset, outer
        self.attributes: Mapping[str, Any] | None = attributes
        if attributes is None and outer is not None:
            self.attributes = outer.attributes
        self.values: dict[str, str] = {}  # to names of our graph; "" for an input that is absent

    def bind(self, name: str, value: str, what: str) -> None:
        """Name a value."""
        if not name or name in self.values:
            raise ModelLoadError(f"{what} {name[:80]!r}: {'it has no name' if not name else 'defined twice'}")
        self.values[name] = value

    def use(self, name: str, where: str) -> str:
        """Return the value of a name; "" for none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        if not name:
            return ""
        raise ModelLoadError(f"{where}: {name[:80]!r} is not computed before, or by a cycle")


class Builder:
    """The graph that is made.

    Parameters
    ----------
    tensors : TensorReader
    budget : Budget
    control : dict
        What control flow becomes, by operator.
    functions : dict
        The file's functions, by domain, name and overload.
    call : callable
        Inlines a function.
    """

    def __init__(
        self,
        tensors: TensorReader,
        budget: Budget,
        control: Mapping[str, Control],
        functions: Functions,
        call: Control,
    ) -> None:
        self._tensors, self._budget = tensors, budget
        self._control, self.functions, self._call = control, functions, call
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.trainable: set[str] = set()
        self.inputs: dict[str, Shape] = {}
        self.types: dict[str, str] = {}
        self._values, self._node_names = Names(), Names()
        self._most_bytes = budget.bytes
        self._growing: list[Growing] = []
        self._seen = self._depth = 0

    # -- values ---------------------------------------------------------------------------------------

    def define(self, scope: Scope, name: str, what: str) -> str:
        """Make a new value and name it."""
        scope.bind(name, self.fresh(name), what)
        return scope.values[name]

    def fresh(self, name: str) -> str:
        """A new name of a value, without colons and asterisks: passes of the compiler use these."""
        return self._values.fresh(name.replace(":", ".").replace("*", "."))

    def constant(self, array: np.ndarray) -> str:
        name = self._values.fresh(f"constant_{len(self.constants)}")
        self.constants[name] = array
        return name

    def initializers(self, scope: Scope, tensors: Iterable[tuple[Any, memoryview | None]]) -> None:
        """Define the initializers of a graph or body."""
        for tensor, raw in tensors:
            name = self.define(scope, tensor.name, "initializer")
            self.constants[name] = array = self._tensors.read(tensor, "initializer", raw)
            if array.dtype.kind == "f":
                self.trainable.add(name)

    # -- what is known before anything runs -----------------------------------------------------------

    def known(self, value: str) -> list[Known]:
        """What is known of a value, once for each of the sizes that stand for all that are free."""
        array = self.constants.get(value)
        if array is not None:
            return [Known(array.shape, array.dtype, array)]
        if not self._growing:
            free = any(size is None for shape in self.inputs.values() for size in shape)
            for batch, size in list(zip(CONDITION_BATCHES, PROBES, strict=True))[: 2 if free else 1]:
                shapes = {
                    name: tuple((size if i else batch) if n is None else n for i, n in enumerate(shape))
                    for name, shape in self.inputs.items()
                }
                self._growing.append(Growing(self.inputs, self.types, shapes, Budget(self._most_bytes, batch)))
        for growing in self._growing:
            growing.add(self.nodes, self.constants)
        return [growing.known[value] for growing in self._growing]

    def array(self, value: str) -> np.ndarray | None:
        """The value, if it is the same for all inputs of all sizes."""
        arrays = [known.array for known in self.known(value)]
        first = arrays[0]
        if first is None or any(other is None or not np.array_equal(first, other) for other in arrays[1:]):
            return None
        return first

    def shape(self, value: str) -> Shape | None:
        """The shape of a value, None for sizes that depend on those of inputs."""
        shapes = [known.shape for known in self.known(value)]
        first = shapes[0]
        if first is None or any(other is None or len(other) != len(first) for other in shapes):
            return None
        return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))

    def type_of(self, value: str) -> Any:
        """The type and shape of a value, as a message of ONNX."""
        from onnx import helper

        shape, dtype = self.shape(value), self.known(value)[0].dtype
        if shape is None or dtype is None:
            raise ModelLoadError("the shape of an input depends on values")
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        return helper.make_tensor_type_proto(kind, [f"size_{i}" if n is None else n for i, n in enumerate(shape)])

    # -- nodes ----------------------------------------------------------------------------------------

    def run(self, protos: Iterable[Any], scope: Scope) -> None:
        """Make the nodes of a graph, a body or a function."""
        self._depth += 1
        for proto in protos:
            name = (proto.name or (list(proto.output) or ["?"])[0])[:80]
            where = f"node {name!r} ({proto.op_type}, opset {scope.opset})"
            self.count()
            try:
                self._node(proto, scope)
            except (ModelLoadError, ValueError, TypeError) as error:
                if self._depth > 1 and isinstance(error, _Placed):
                    raise
                raise _Placed(f"{where}: {error}") from None
        self._depth -= 1

    def count(self) -> None:
        """Count a node or an iteration of a loop; ModelLoadError for too many."""
        self._seen += 1
        if self._seen > MAX_NODES:
            raise ModelLoadError(f"more than {MAX_NODES} nodes, with loops unrolled and functions inlined")
        self._budget.keep(NODE_BYTES, f"its first {self._seen} nodes")

    def _node(self, proto: Any, scope: Scope) -> None:
        if not any(proto.output):
            raise ModelLoadError("it has no outputs")
        attrs = dict(self._attributes(proto, scope))
        control = self._call if key_of(proto) in self.functions else None
        if control is None and proto.domain in STANDARD:
            control = self._control.get(proto.op_type)
        if control is not None:
            found = control(self, proto, scope, attrs)
            if len(proto.output) > len(found):
                raise ModelLoadError(f"{len(proto.output)} outputs, expected at most {len(found)}")
            for name, value in zip(proto.output, found, strict=False):
                if name:
                    self.add("Identity", [value], self.define(scope, name, "output"))
            return
        inputs = [scope.use(name, "its inputs") for name in proto.input]
        outputs = [self.define(scope, name, "output") if name else "" for name in proto.output]
        domain = "" if proto.domain in STANDARD else proto.domain
        if proto.op_type == "Constant" and not domain:
            self.constants[outputs[0]] = constant_value(attrs)
            return
        raw = RawNode(proto.op_type, proto.name, inputs, outputs, attrs, scope.opset, self.constant)
        self.emit(raw, domain)

    def add(self, op: str, inputs: list[str], output: str = "", **attrs: Any) -> str:
        """Make a node of one output, which is new unless it is given."""
        target = output or self.fresh(f"{inputs[0]}/{op.lower()}")
        self.emit(RawNode(op, "", inputs, [target], attrs, General.opset, self.constant))
        return target

    def emit(self, raw: RawNode, domain: str = "") -> None:
        """Make the nodes that compute a node of the file, one for each output."""
        expansion = EXPANSIONS.get((domain, raw.op))
        if expansion is not None:
            for part in Expansion(raw, self.fresh, self.shape).run(expansion):
                self.emit(part)
            return
        normalise(raw)
        while raw.inputs and not raw.inputs[-1]:
            raw.inputs.pop()
        if raw.attrs.get("output") is not None:
            raise ModelLoadError("unknown attribute 'output'")
        operator = TABLE[DOMAIN + raw.op]
        full = {**{k: v for k, v in operator.defaults.items() if v is not _EMPTY}, **raw.attrs}
        operator.check(full, raw.inputs)
        for i, output in enumerate(raw.outputs):
            if output:
                base = raw.name.replace(":", ".") or output
                name = self._node_names.fresh(base if i == 0 else f"{base}/{i}")
                extra = {"output": i} if i else {}
                self.nodes.append(Node(DOMAIN + raw.op, name, tuple(raw.inputs), output, {**full, **extra}))

    def _attributes(self, proto: Any, scope: Scope) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for attribute in proto.attribute:
            name = attribute.name
            if name in seen:
                raise ModelLoadError("it has an attribute twice")
            seen.add(name)
            if attribute.ref_attr_name:
                if scope.attributes is None:
                    raise ModelLoadError(f"attribute {name[:80]!r}: expected numbers, text or a tensor")
                if attribute.ref_attr_name in scope.attributes:
                    yield name, scope.attributes[attribute.ref_attr_name]
                continue
            yield name, self.attribute(attribute)

    def attribute(self, proto: Any) -> Any:
        """The value of an attribute."""
        where, kind = f"attribute {proto.name[:80]!r}", _KINDS.get(proto.type)
        if kind is None or not proto.name:
            raise ModelLoadError(f"{where}: expected numbers, text or a tensor")
        value = getattr(proto, kind)
        if kind.endswith("s") and kind != "s":
            self._budget.require(Cost(_ITEM_BYTES * len(value), 0), where)
        if kind == "s":
            return value.decode("utf-8", "replace")
        if kind == "t":
            return self._tensors.read(value, where)
        if kind == "strings":
            return tuple(item.decode("utf-8", "replace") for item in value)
        return value if kind in ("f", "i", "g") else tuple(value)


def constant_value(attrs: dict[str, Any]) -> np.ndarray:
    """The value of a Constant."""
    kinds = {
        "value": None,
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if len(attrs) != 1 or not set(attrs) <= set(kinds):
        raise ModelLoadError(f"attributes {', '.join(attrs) or 'none'}, expected one of {', '.join(kinds)}")
    ((key, value),) = attrs.items()
    return np.asarray(value, kinds[key])

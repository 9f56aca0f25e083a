"""Control flow of ONNX files becomes nodes without it: loops are unrolled, one branch of a condition is taken, and
functions are inlined, those of the file and those by which ONNX defines operators.

What decides, a condition or a number of iterations, must be known before anything runs: as a constant, or by the
shapes of the inputs. https://onnx.ai/onnx/operators defines If, Loop and Scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_attention import is_plain
from fastcnn.io._onnx_builder import Builder, Control, Scope
from fastcnn.io._onnx_dialect import RawNode
from fastcnn.io._onnx_known import DEFINED, key_of, opset_of, refuse_unknown

# Iterations of a loop, each of which becomes nodes of the graph.
MAX_ITERATIONS = 10_000
_SCAN_OPSET = 9  # before, all of its operands had a batch


def _body(attrs: dict[str, Any], key: str, inputs: int | None = None, outputs: int = 0) -> Any:
    """The graph that is an attribute, after its inputs and outputs are counted."""
    from onnx import GraphProto

    body = attrs.get(key)
    if not isinstance(body, GraphProto):
        raise ModelLoadError(f"attribute {key!r} is missing, or no graph")
    if inputs is not None and len(body.input) != inputs or len(body.output) < outputs:
        found = f"{len(body.input)} inputs and {len(body.output)} outputs"
        raise ModelLoadError(f"{key} has {found}, expected {inputs} and at least {outputs}")
    if len(body.sparse_initializer):
        raise ModelLoadError(f"{key} has sparse initializers, which are not supported")
    return body


def _constants(builder: Builder, body: Any, scope: Scope) -> dict[str, str]:
    """The initializers of a body, by name."""
    inner = Scope(scope.opset)
    builder.initializers(inner, ((tensor, None) for tensor in body.initializer))
    return inner.values


def _run(builder: Builder, body: Any, scope: Scope, constants: dict[str, str], values: Sequence[str]) -> list[str]:
    """The outputs of a body for values of its inputs."""
    inner = Scope(scope.opset, scope)
    inner.values.update(constants)
    for value, name in zip(body.input, values, strict=True):
        inner.bind(value.name, name, "input of the body")
    builder.run(body.node, inner)
    return [inner.use(value.name, "the body's outputs") for value in body.output]


def _number(builder: Builder, value: str, what: str) -> Any:
    array = builder.array(value)
    if array is None:
        raise ModelLoadError(
            f"its {what} depends on the values of inputs or on sizes that are free, expected a constant"
        )
    if array.size != 1:
        raise ModelLoadError(f"its {what} has {array.size} elements, expected one")
    return array.reshape(()).item()


def _limit(iterations: int) -> None:
    if iterations > MAX_ITERATIONS:
        raise ModelLoadError(f"it has more than {MAX_ITERATIONS} iterations: too many to unroll")


def _inputs(proto: Any, scope: Scope) -> list[str]:
    return [scope.use(name, "its inputs") for name in proto.input]


def _if(builder: Builder, proto: Any, scope: Scope, attrs: dict[str, Any]) -> list[str]:
    inputs = _inputs(proto, scope)
    if len(inputs) != 1:
        raise ModelLoadError(f"{len(inputs)} inputs, expected a condition")
    branches = [_body(attrs, key, 0, len(proto.output)) for key in ("else_branch", "then_branch")]
    chosen = branches[bool(_number(builder, inputs[0], "condition"))]
    refuse_unknown(chosen.node, scope.opset, builder.functions)
    return _run(builder, chosen, scope, _constants(builder, chosen, scope), ())


def _loop(builder: Builder, proto: Any, scope: Scope, attrs: dict[str, Any]) -> list[str]:
    inputs = [*_inputs(proto, scope), "", ""]
    most, condition, state = inputs[0], inputs[1], list(inputs[2:-2])
    body = _body(attrs, "body", 2 + len(state), 1 + len(state))
    trips = int(_number(builder, most, "number of iterations")) if most else None
    goes_on = bool(_number(builder, condition, "condition")) if condition else True
    constants, count = _constants(builder, body, scope), len(state)
    rows: list[list[str]] = [[] for _ in body.output[1 + count :]]
    i = 0
    while goes_on and (trips is None or i < trips):
        _limit(max(i, trips or 0))
        builder.count()
        values = [builder.constant(np.array(i, np.int64)), builder.constant(np.array(True)), *state]
        decision, *found = _run(builder, body, scope, constants, values)
        goes_on = bool(_number(builder, decision, "condition"))
        state = found[:count]
        for row, value in zip(rows, found[count:], strict=True):
            row.append(value)
        i += 1
    return [*state, *_collected(builder, proto, count, rows, [0] * len(rows))]


def _scan(builder: Builder, proto: Any, scope: Scope, attrs: dict[str, Any]) -> list[str]:
    if scope.opset < _SCAN_OPSET:
        raise ModelLoadError(f"its form before opset {_SCAN_OPSET} is not supported")
    inputs, many = _inputs(proto, scope), attrs.get("num_scan_inputs")
    if type(many) is not int or not 1 <= many <= len(inputs):
        raise ModelLoadError(f"num_scan_inputs={many}, expected 1 to {len(inputs)}")
    state, sources = inputs[: len(inputs) - many], inputs[len(inputs) - many :]
    body, count = _body(attrs, "body", len(inputs), len(state)), len(state)
    results = len(body.output) - count
    axes, ways = _each(attrs, "scan_input_axes", many), _each(attrs, "scan_input_directions", many)
    to_axes, to_ways = _each(attrs, "scan_output_axes", results), _each(attrs, "scan_output_directions", results)
    lengths = [_length(builder, *pair) for pair in zip(sources, axes, strict=True)]
    if len(set(lengths)) != 1:
        raise ModelLoadError(f"sequences of {lengths[:10]} steps, expected one length")
    _limit(lengths[0])
    constants = _constants(builder, body, scope)
    rows: list[list[str]] = [[] for _ in range(results)]
    for t in range(lengths[0]):
        builder.count()
        places = [builder.constant(np.array(i, np.int64)) for i in (t, lengths[0] - 1 - t)]
        parts = [
            builder.add("Gather", [source, places[bool(way)]], axis=axis)
            for source, axis, way in zip(sources, axes, ways, strict=True)
        ]
        found = _run(builder, body, scope, constants, [*state, *parts])
        state = found[:count]
        for row, value, way in zip(rows, found[count:], to_ways, strict=True):
            row.insert(0 if way else len(row), value)
    return [*state, *_collected(builder, proto, count, rows, to_axes)]


def _each(attrs: dict[str, Any], key: str, count: int) -> tuple[int, ...]:
    """A list of attributes, one for each operand; zeros if it is absent."""
    found = attrs.get(key, (0,) * count)
    if not isinstance(found, tuple) or len(found) != count:
        raise ModelLoadError(f"{key}={str(found)[:80]}, expected {count} integers")
    return found


def _length(builder: Builder, source: str, axis: int) -> int:
    shape = builder.shape(source)
    if shape is None or not -len(shape) <= axis < len(shape) or shape[axis] is None:
        raise ModelLoadError(f"axis {axis} of shape {shape}, expected an axis whose size is known: the number of steps")
    return int(shape[axis])  # type: ignore[arg-type]


def _collected(builder: Builder, proto: Any, before: int, rows: list[list[str]], axes: Sequence[int]) -> Iterator[str]:
    """Yield the outputs behind the first ones: the values of all iterations along a new axis."""
    for i, (row, axis) in enumerate(zip(rows, axes, strict=True), before):
        if i >= len(proto.output) or not proto.output[i]:
            yield ""
            continue
        if not row:
            raise ModelLoadError("it has no iterations: the shape of what it collects is not known")
        place = builder.constant(np.array([axis], np.int64))
        parts = [builder.add("Unsqueeze", [value, place]) for value in row]
        yield builder.add("Concat", parts, axis=axis)


def call(builder: Builder, proto: Any, scope: Scope, attrs: dict[str, Any]) -> list[str]:
    """Inline a function of the file; its nodes see its inputs and attributes alone."""
    return _inline(builder, builder.functions[key_of(proto)], _inputs(proto, scope), scope.opset, attrs)


def _inline(builder: Builder, function: Any, inputs: list[str], opset: int, attrs: dict[str, Any]) -> list[str]:
    given = {attribute.name: builder.attribute(attribute) for attribute in function.attribute_proto}
    unknown = [name for name in attrs if name not in given and name not in function.attribute]
    if unknown or len(inputs) > len(function.input):
        wanted = f"at most {len(function.input)}, and of {[*function.attribute, *given][:8]}"
        raise ModelLoadError(f"{len(inputs)} inputs and attributes {unknown[:8]}, expected {wanted}")
    inner = Scope(opset_of(function.opset_import, opset), None, {**given, **attrs})
    for name, value in zip(function.input, [*inputs, *[""] * len(function.input)], strict=False):
        inner.bind(name, value, "input of the function")
    builder.run(function.node, inner)
    return [inner.values.get(name, "") for name in function.output]


def _defined(builder: Builder, proto: Any, scope: Scope, attrs: dict[str, Any]) -> list[str]:
    """Inline an operator that ONNX defines by others, for the shapes and types of its inputs."""
    from onnx import defs

    if not defs.has(proto.op_type, scope.opset):
        raise ModelLoadError("a later opset has it first")
    schema: Any = defs.get_schema(proto.op_type, scope.opset)
    inputs = _inputs(proto, scope)
    if proto.op_type == "Attention" and _is_plain(builder, inputs, proto, attrs):
        output = builder.fresh(proto.output[0])
        builder.emit(RawNode(proto.op_type, proto.name, inputs, [output], attrs, scope.opset, builder.constant))
        return [output]
    function = _definition(builder, schema, proto, inputs, scope, attrs)
    if not len(function.node):
        raise ModelLoadError("its attributes and inputs do not fit to each other")
    defaults = {key: a.default_value for key, a in schema.attributes.items() if a.default_value.type}
    full = {**{key: builder.attribute(default) for key, default in defaults.items()}, **attrs}
    return _inline(builder, function, inputs, scope.opset, full)


def _definition(
    builder: Builder, schema: Any, proto: Any, inputs: list[str], scope: Scope, attrs: dict[str, Any]
) -> Any:
    """The function that defines an operator. It may depend on the shapes and types of the inputs."""
    from onnx import FunctionProto, TypeProto, helper

    if schema.has_function:
        version = _version(schema.function_opset_versions, scope)
        return FunctionProto.FromString(schema.get_function_with_opset_version(version))
    types = [builder.type_of(value) if value else TypeProto() for value in inputs]
    version = _version(schema.context_dependent_function_opset_versions, scope)
    try:
        node = helper.make_node(proto.op_type, list(proto.input), list(proto.output), **attrs).SerializeToString()
        texts = [kind.SerializeToString() for kind in types]
        return FunctionProto.FromString(schema.get_context_dependent_function_with_opset_version(version, node, texts))
    except MemoryError:
        raise
    except Exception as error:  # the package raises errors of many types
        raise ModelLoadError(f"{type(error).__name__}: {str(error)[:200]}") from None


def _is_plain(builder: Builder, inputs: list[str], proto: Any, attrs: dict[str, Any]) -> bool:
    if "" in inputs or any(known.dtype != np.float32 for value in inputs for known in builder.known(value)):
        return False
    return is_plain(attrs, [builder.shape(value) for value in inputs], len(proto.output))


def _version(versions: Sequence[int], scope: Scope) -> int:
    """The newest form that the opset has."""
    return max((version for version in versions if version <= scope.opset), default=min(versions))


CONTROL: dict[str, Control] = {"If": _if, "Loop": _loop, "Scan": _scan, **dict.fromkeys(DEFINED, _defined)}

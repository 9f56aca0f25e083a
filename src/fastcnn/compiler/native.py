"""Translation of general operations into those with kernels: one rule for each of ONNX's operators that have kernels.

A rule gives the nodes that compute the same, or None if no kernel can. None stands for types other than float32,
weights that are not constant, and attributes that no kernel takes. The operations themselves check whether shapes fit.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastcnn.compiler.native_arithmetic import arithmetic, division, einsum, power, reduction, variadic, where
from fastcnn.compiler.native_quantize import dequantize, quantize
from fastcnn.compiler.native_windows import conv, global_max, pool
from fastcnn.compiler.rewriter import Chain, Link, Rewriter, Rule
from fastcnn.graph.ir import Node
from fastcnn.ops.general.base import axes_of, axis_of
from fastcnn.ops.general.rearrange import pad_amounts
from fastcnn.ops.general.resize import resize_plan

FAR = 2**31 - 1  # a slice with this end goes to the end of its axis
MOST_PARTS = 16  # slices of one value that are joined again


def translate(node: Node, rewriter: Rewriter) -> list[Node] | None:
    """The nodes with kernels that compute a general node, or None.

    Parameters
    ----------
    node : Node
    rewriter : Rewriter
        Knows the node's operands.
    """
    rule = RULES.get(node.op.rpartition(":")[2])
    rewriter.node = node
    if rule is None or node.attrs.get("output", 0) != 0 and rule is not _split:
        return None
    return rule(rewriter)


def _same(op: str, *attributes: str) -> Rule:
    """The rule for an operation of the same name, with these attributes."""

    def rule(r: Rewriter) -> list[Node] | None:
        return [r.make(op, r.node.inputs, **{key: r.attr(key) for key in attributes})] if r.is_float() else None

    return rule


def _gemm(r: Rewriter) -> list[Node] | None:
    weight, alpha, beta = r.array(1), r.attr("alpha"), r.attr("beta")
    if not r.is_float() or len(r.shape(1)) != 2 or len(r.shape()) != 2:
        return None
    if weight is None or r.attr("transA"):
        flags = {"trans_a": int(r.attr("transA") != 0), "trans_b": int(r.attr("transB") != 0), "scale": alpha}
        product: Link = ("MatMul", (r.node.inputs[1],), flags)
        if not r.has(2):
            return r.chain(product)
        return r.chain(product, ("Add", (r.node.inputs[2],), {})) if beta == 1.0 else None
    name = r.node.inputs[1]
    if not r.attr("transB"):
        name = r.transposed(1) if alpha == 1.0 else r.constant(f"{name}_transposed", alpha * weight.T, alpha)
    elif alpha != 1.0:
        name = r.constant(f"{name}_scaled", alpha * weight, alpha)
    outs = weight.shape[0] if r.attr("transB") else weight.shape[1]
    if not r.has(2):
        return [r.make("Gemm", (r.node.inputs[0], name))]
    bias = r.array(2)
    if bias is not None and bias.shape == (outs,) and beta == 1.0:
        return [r.make("Gemm", (r.node.inputs[0], name, r.node.inputs[2]))]
    if bias is not None and (bias.ndim < 2 or bias.shape[0] == 1) and bias.size in (1, outs):
        spread = np.broadcast_to(beta * bias.reshape(-1), (outs,))
        return [r.make("Gemm", (r.node.inputs[0], name, r.constant(f"{r.node.inputs[2]}_spread", spread, beta, outs)))]
    return r.chain(("Gemm", (name,), {}), ("Add", (r.node.inputs[2],), {})) if beta == 1.0 else None


def _matmul(r: Rewriter) -> list[Node] | None:
    weight, shape = r.array(1), r.shape()
    if not r.is_float() or min(len(shape), len(r.shape(1))) < 2:
        return None
    if weight is None or weight.ndim != 2:
        return [r.make("MatMul", r.node.inputs)]
    return r.chain(("Gemm", (r.transposed(1),), {}))


def _batch_norm(r: Rewriter) -> list[Node] | None:
    constant = all(r.array(i) is not None for i in range(1, 5))
    if not r.is_float() or not constant or r.attr("training_mode"):
        return None
    return [r.make("BatchNormalization", r.node.inputs, epsilon=r.attr("epsilon"))]


def _group_norm(r: Rewriter) -> list[Node] | None:
    """Before opset 21, scale and bias have a number for each group."""
    groups, inputs = r.attr("num_groups"), list(r.node.inputs)
    if not r.is_float():
        return None
    for i in (1, 2) if r.node.attrs.get("by_group") else ():
        values = r.array(i)
        if values is None:
            return None
        each = r.shape()[1] // groups
        inputs[i] = r.constant(f"{inputs[i]}_by_channel", np.repeat(values.reshape(-1), each), each)
    return [r.make("GroupNormalization", tuple(inputs), num_groups=groups, epsilon=r.attr("epsilon"))]


def _resize(r: Rewriter) -> list[Node] | None:
    """Resizing of the rows and columns of images, without a region of interest and without antialiasing."""
    shape, attrs = r.shape(), {key: r.attr(key) for key in r.node.kind.defaults}
    mode = attrs["coordinate_transformation_mode"]
    if not r.is_float(0) or len(shape) != 4 or attrs["antialias"] or mode == "tf_crop_and_resize":
        return None
    plan = {axis: (size, scale) for axis, size, scale in resize_plan(shape, attrs, r.array(2), r.array(3))}
    (n, n_scale), (c, c_scale), (h, h_scale), (w, w_scale) = (plan.get(i, (shape[i], 1.0)) for i in range(4))
    if (n, c, n_scale, c_scale) != (*shape[:2], 1.0, 1.0):
        return None
    keys = ("mode", "nearest_mode", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside")
    how: dict[str, Any] = {key: attrs[key] for key in keys}
    return r.chain(("Resize", (), {"sizes": (h, w), "scale_h": h_scale, "scale_w": w_scale, **how}))


def _clip(r: Rewriter) -> list[Node] | None:
    bounds: dict[str, Any] = {}
    for i, key, free in ((1, "min", float("-inf")), (2, "max", float("inf"))):
        array = r.array(i)
        if r.has(i) and (array is None or array.size != 1):
            return None
        bounds[key] = free if array is None else array.reshape(()).item()
    return [r.make("Clip", r.node.inputs[:1], **bounds)] if r.is_float() else None


def _softmax(r: Rewriter) -> list[Node] | None:
    shape = r.shape()
    axis = axis_of(r.attr("axis"), len(shape))
    if not r.is_float() or not shape:
        return None
    if not r.attr("flatten") or prod(shape[axis:]) == shape[axis]:
        return [r.make("Softmax", r.node.inputs, axis=axis - len(shape))]
    back = ("Reshape", (), {"shape": reshape_form((prod(shape[:axis]), prod(shape[axis:])), shape)})
    return r.chain(("Flatten", (), {"axis": axis}), ("Softmax", (), {"axis": 1}), back)


def reshape_form(source: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The target shape with its first size left open, so that the node also fits batches of other sizes.

    Examples
    --------
    >>> reshape_form((2, 8, 4, 4), (2, 128)), reshape_form((2, 8, 4), (16, 4))
    ((0, 128), (-1, 4))
    >>> reshape_form((2, 8), (1, 2, 8))  # the batch is behind axes of size 1
    (1, -1, 8)
    """
    if not target or prod(target) == 0:
        return target
    ahead = next((axis for axis, size in enumerate(target) if size > 1), 0)
    if ahead and source[:1] == (target[ahead],):
        return (*target[:ahead], -1, *target[ahead + 1 :])
    return (0 if source and source[0] == target[0] else -1, *target[1:])


def _reshape(r: Rewriter) -> list[Node] | None:
    """Reshape, Flatten, Squeeze or Unsqueeze, to the shape that ONNX's rule gives."""
    op, source = r.node.kind, r.shape()
    if not r.is_float(0):
        return None
    arrays = [r.known[name].stand_in() if name else None for name in r.node.inputs]
    target = op.evaluate(r.node.attrs, arrays, r.budget).shape  # type: ignore[attr-defined]
    if not target:
        return None
    if len(target) == 2 and len(source) > 1 and target[0] == source[0]:
        return [r.make("Flatten", r.node.inputs[:1], axis=1)]
    return [r.make("Reshape", r.node.inputs[:1], shape=reshape_form(source, target))]


def _transpose(r: Rewriter) -> list[Node] | None:
    rank = len(r.shape())
    perm = r.attr("perm") or tuple(range(rank - 1, -1, -1))
    return [r.make("Transpose", r.node.inputs, perm=axes_of(perm, rank))] if r.is_float() else None


def _slice(r: Rewriter) -> list[Node] | None:
    starts, ends, axes, steps = (r.array(i) for i in (1, 2, 3, 4))
    if not r.is_float(0) or starts is None or ends is None or (steps is not None and (steps < 1).any()):
        return None
    rank = len(r.shape())
    chosen = axes_of(range(starts.size) if axes is None else axes.ravel(), rank)
    rounds = np.ones(starts.size, np.int64) if steps is None else steps.ravel()
    parts = [
        _part(axis, *map(int, limits)) for axis, *limits in zip(chosen, starts.flat, ends.flat, rounds, strict=True)
    ]
    return r.chain(*parts) if parts else None


def _part(axis: int, start: int, end: int, step: int = 1) -> Link:
    bounds = {"start": max(-FAR, min(start, FAR)), "end": max(-FAR, min(end, FAR))}
    return "Slice", (), {"axis": axis, **bounds, "step": step}


def _gather(r: Rewriter) -> list[Node] | None:
    """Elements at constant places, if they are evenly spaced."""
    places, shape = r.array(1), r.shape()
    axis = axis_of(r.attr("axis"), len(shape))
    if not r.is_float(0) or places is None or places.ndim > 2 or not places.size:
        return None
    found = np.where(places < 0, places + shape[axis], places).astype(np.int64)
    if found.min() < 0 or found.max() >= shape[axis]:
        return None
    if found.ndim == 2:
        return _gather_table(r, found, axis)
    part = _spaced(axis, found.ravel())
    if part is None or places.ndim:
        return r.chain(part) if part else None
    rest, one = (*shape[:axis], *shape[axis + 1 :]), (*shape[:axis], 1, *shape[axis + 1 :])
    return r.chain(part, ("Reshape", (), {"shape": reshape_form(one, rest)})) if rest else None


def _spaced(axis: int, places: np.ndarray) -> Link | None:
    """The slice of elements at places that are evenly spaced; None for others."""
    step = int(places[1] - places[0]) if places.size > 1 else 1
    if step < 1 or (np.diff(places) != step).any():
        return None
    return _part(axis, int(places[0]), int(places[-1]) + 1, step)


def _gather_table(r: Rewriter, places: np.ndarray, axis: int) -> list[Node] | None:
    """Elements at the places of a table, such as the windows of an axis, as a few slices one beside the other."""
    by_row = len(places) <= places.shape[1]
    rows = places if by_row else places.T
    parts = [_spaced(axis, row) for row in rows]
    if len(parts) > MOST_PARTS or None in parts:
        return None
    shape, chain, joined = r.shape(), Chain(r), []
    size = (1, rows.shape[1]) if by_row else (rows.shape[1], 1)
    for op, _, attrs in filter(None, parts):
        before = (*shape[:axis], rows.shape[1], *shape[axis + 1 :])
        part = chain.made(op, r.node.inputs[:1], **attrs)
        sizes = reshape_form(before, (*shape[:axis], *size, *shape[axis + 1 :]))
        joined.append(chain.made("Reshape", (part,), shape=sizes))
    chain.made("Concat", tuple(joined), axis=axis if by_row else axis + 1)
    return chain.ended()


def _expand(r: Rewriter) -> list[Node] | None:
    wanted = r.array(1)
    if not r.is_float(0) or wanted is None:
        return None
    shape = tuple(wanted.ravel().tolist())
    if np.broadcast_shapes(r.shape(), shape) == r.shape():
        return _identity(r)
    # 1 keeps a size, so that the node also fits batches of other sizes.
    own = (1,) * (len(shape) - len(r.shape())) + r.shape()
    wanted_sizes = [1 if size == had else size for size, had in zip(shape[::-1], own[::-1], strict=False)][::-1]
    return r.chain(("Expand", (), {"shape": tuple(wanted_sizes)}))


def _split(r: Rewriter) -> list[Node] | None:
    shape, index = r.shape(), r.node.attrs.get("output", 0)
    axis = axis_of(r.attr("axis"), len(shape))
    if not r.is_float(0) or (r.has(1) and r.array(1) is None):
        return None
    sizes = r.array(1)
    if sizes is None:
        part = -(-shape[axis] // (r.attr("num_outputs") or 1))
        start, end = index * part, min(shape[axis], (index + 1) * part)
    else:
        if int(sizes.sum()) != shape[axis] or sizes.min() < 0 or index >= sizes.size:
            return None
        start = int(sizes.ravel()[:index].sum())
        end = start + int(sizes.ravel()[index])
    return r.chain(_part(axis, start, end))


def _concat(r: Rewriter) -> list[Node] | None:
    return [r.make("Concat", r.node.inputs, axis=r.attr("axis"))] if r.is_float() and len(r.shape()) else None


def _pad(r: Rewriter) -> list[Node] | None:
    pads, value, shape = r.array(1), r.array(2), r.shape()
    if not r.is_float(0) or pads is None or (r.has(2) and value is None):
        return None
    amounts = pad_amounts(len(shape), pads, r.array(3))
    if r.attr("mode") != "constant":
        return _pad_with_elements(r, amounts)
    flat = (*[a for a, _ in amounts], *[b for _, b in amounts])
    if not any(flat):
        return _identity(r)
    if min(flat) < 0:
        return None
    fill = 0.0 if value is None else float(value.reshape(()))
    return [r.make("Pad", r.node.inputs[:1], pads=flat, value=fill)]


def _pad_with_elements(r: Rewriter, amounts: list[tuple[int, int]]) -> list[Node] | None:
    """A narrow border of elements near it: slices that are joined with the array, one axis after the other."""
    mode, chain = r.attr("mode"), Chain(r)
    for axis, (size, (before, behind)) in enumerate(zip(r.shape(), amounts, strict=True)):
        if not (before or behind):
            continue
        if min(before, behind) < 0 or before + behind > MOST_PARTS or size == 1:
            return None
        places, x = np.pad(np.arange(size), (before, behind), mode=mode), chain.value
        parts = [*places[:before].tolist(), None, *places[before + size :].tolist()]
        slices = {at: chain.made("Slice", (x,), axis=axis, start=at, end=at + 1) for at in parts if at is not None}
        chain.value = chain.made("Concat", tuple(x if at is None else slices[at] for at in parts), axis=axis)
    return chain.ended() if chain.nodes else _identity(r)


def _identity(r: Rewriter) -> list[Node] | None:
    return [r.make("Identity", r.node.inputs[:1])] if r.is_float(0) else None


def _dropout(r: Rewriter) -> list[Node] | None:
    training = r.array(2)
    if r.has(2) and (training is None or training.any()):
        return None
    return _identity(r)


def _cast(r: Rewriter) -> list[Node] | None:
    return _identity(r) if r.attr("to") == 1 else None


def _hard_sigmoid(r: Rewriter) -> list[Node] | None:
    if not r.is_float():
        return None
    slope, shift = (r.constant(f"{r.node.output}/{key}", np.float32(r.attr(key))) for key in ("alpha", "beta"))
    return r.chain(("Mul", (slope,), {}), ("Add", (shift,), {}), ("Clip", (), {"min": 0.0, "max": 1.0}))


def _swish(r: Rewriter) -> list[Node] | None:
    return [r.make("Swish", r.node.inputs)] if r.is_float() and r.attr("alpha") == 1.0 else None


RULES: dict[str, Rule] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "Conv": conv,
    "MaxPool": pool("MaxPool"),
    "AveragePool": pool("AveragePool"),
    "GlobalAveragePool": _same("GlobalAveragePool"),
    "GlobalMaxPool": global_max,
    **{op: reduction(op) for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2")},
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": einsum,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Relu": _same("Relu"),
    "LeakyRelu": _same("LeakyRelu", "alpha"),
    "LRN": _same("LRN", "size", "alpha", "beta", "bias"),
    "Sigmoid": _same("Sigmoid"),
    "Tanh": _same("Tanh"),
    "HardSwish": _same("HardSwish"),
    "HardSigmoid": _hard_sigmoid,
    "Swish": _swish,
    "Gelu": _same("Gelu", "approximate"),
    "Erf": _same("Erf"),
    "LayerNormalization": _same("LayerNormalization", "axis", "epsilon"),
    "RMSNormalization": _same("RMSNormalization", "axis", "epsilon"),
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _same("InstanceNormalization", "epsilon"),
    "Add": arithmetic("Add"),
    "Sub": arithmetic("Sub"),
    "Mul": arithmetic("Mul"),
    "Div": division,
    "Sum": variadic("Add"),
    "Min": variadic("Min"),
    "Max": variadic("Max"),
    "Pow": power,
    "Where": where,
    **{op: _same(op) for op in ("Abs", "Exp", "Neg", "Reciprocal", "Sqrt")},
    "Softmax": _softmax,
    "Resize": _resize,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "DepthToSpace": _same("DepthToSpace", "blocksize", "mode"),
    "SpaceToDepth": _same("SpaceToDepth", "blocksize", "mode"),
    "Concat": _concat,
    "Pad": _pad,
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
}

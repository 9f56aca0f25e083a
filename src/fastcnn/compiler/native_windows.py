"""Translation rules for convolution and pooling. native.py has the others, native_volumes.py convolution of volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn.compiler.native_volumes import conv_of_volumes
from fastcnn.compiler.rewriter import Link, Rewriter, Rule
from fastcnn.graph.ir import Node


def _windowed(r: Rewriter, node: Callable[[dict[str, Any], bool], Link], kernel: tuple[int, ...]) -> list[Node] | None:
    """A window operation on images, or on signals (N, C, L) as images of one row."""
    rank = len(r.shape()) - 2
    if rank not in (1, 2) or len(kernel) != rank:
        return None
    strides = r.attr("strides") or (1,) * rank
    attrs = {"strides": strides, "pads": r.attr("pads") or (0,) * (2 * rank), "auto_pad": r.attr("auto_pad")}
    if "dilations" in r.node.kind.defaults:
        attrs["dilations"] = r.attr("dilations") or (1,) * rank
    if len(attrs["pads"]) != 2 * rank or attrs["auto_pad"] == "NOTSET" and min(attrs["pads"]) < 0:
        return None
    if attrs["auto_pad"] != "NOTSET":
        attrs["pads"] = (0,) * (2 * rank)
    if rank == 2:
        return r.chain(node({**attrs}, False))
    for key in ("strides", "dilations"):
        if key in attrs:
            attrs[key] = (1, *attrs[key])
    attrs["pads"] = (0, attrs["pads"][0], 0, attrs["pads"][1])
    row = ("Reshape", (), {"shape": (0, 0, 1, -1)})
    return r.chain(row, node({**attrs}, True), ("Reshape", (), {"shape": (0, 0, -1)}))


def conv(r: Rewriter) -> list[Node] | None:
    weight = r.array(1)
    if not r.is_float() or weight is None or (r.has(2) and r.array(2) is None):
        return None
    if r.attr("kernel_shape") not in (None, weight.shape[2:]):
        return None
    if len(r.shape()) == weight.ndim == 5:
        return conv_of_volumes(r, weight)

    def node(attrs: dict[str, Any], is_row: bool) -> Link:
        name = r.node.inputs[1]
        if is_row:
            name = r.constant(f"{name}_rows", weight[:, :, None])
        return "Conv", (name, *r.node.inputs[2:]), {**attrs, "group": r.attr("group")}

    return _windowed(r, node, weight.shape[2:])


def pool(op: str) -> Rule:
    def rule(r: Rewriter) -> list[Node] | None:
        if not r.is_float():
            return None
        kernel = r.attr("kernel_shape")
        if op == "AveragePool" and set(r.attr("dilations") or (1,)) != {1}:
            return None

        def node(attrs: dict[str, Any], is_row: bool) -> Link:
            attrs |= {"kernel_shape": (1, *kernel) if is_row else kernel, "ceil_mode": r.attr("ceil_mode")}
            if op == "AveragePool":
                attrs["count_include_pad"] = r.attr("count_include_pad")
                del attrs["dilations"]
            return op, (), attrs

        return _windowed(r, node, kernel)

    return rule


def global_max(r: Rewriter) -> list[Node] | None:
    if not r.is_float() or len(r.shape()) != 4:
        return None
    return r.chain(("MaxPool", (), {"kernel_shape": r.shape()[2:]}))

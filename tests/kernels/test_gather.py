"""Steps that put elements or pixels into another order: exact, on every instruction set and any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from definitions import evaluate

import fastcnn
from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node


def check(op, shape, attrs, before=""):
    """The results of an operation, whose input is plain or comes out of a convolution with a halo."""
    full = {**ops.get(op).defaults, **attrs}
    nodes, constants = [Node(op, "a", ("x",), "y", full)], {}
    if before != "":
        constants = {"w": np.eye(shape[1], dtype=np.float32).reshape(shape[1], shape[1], 1, 1)}
        conv = Node("Conv", "c", ("x", "w"), "v", dict(ops.get("Conv").defaults))
        nodes = [conv, Node(op, "a", ("v",), "y", full)]
        if before == "halo":
            constants["k"] = np.zeros((1, shape[1], 3, 3), np.float32)
            nodes.append(Node("Conv", "k", ("v", "k"), "z", {**conv.attrs, "pads": (1, 1, 1, 1)}))
    graph = Graph(nodes, {"x": shape}, ["y", *["z"] * (before == "halo")], constants)
    x = np.random.default_rng(0).integers(-99, 99, shape).astype(np.float32)
    wanted = evaluate(graph, x=x)["y"]
    plan = compile_graph(graph, graph.inputs)
    for threads in THREADS:
        with fastcnn.num_threads(threads):
            got = plan.run([x])[0]
        assert got.shape == wanted.shape
        assert (got == wanted).all()


@pytest.mark.parametrize("rank", [2, 3, 4, 5, 6, 7])
def test_transposes_of_any_rank(isa, poisoned, rank):
    rng = np.random.default_rng(rank)
    for _ in range(8):
        shape = tuple(int(size) for size in rng.choice([1, 2, 3, 5], rank))
        check("Transpose", shape, {"perm": tuple(int(axis) for axis in rng.permutation(rank))})


@pytest.mark.parametrize("shape", [(7,), (3, 8), (2, 5, 6), (2, 17, 6, 7), (2, 3, 5, 6, 7)])
def test_slices_with_steps(isa, poisoned, shape):
    for axis in range(len(shape)):
        for start, step in ((0, 2), (1, 2), (1, 3), (0, 9), (-2, 1)):
            check("Slice", shape, {"axis": axis, "start": start, "end": 2**31 - 1, "step": step})


@pytest.mark.parametrize("before", ["plain", "halo"])
@pytest.mark.parametrize("channels", [3, 16, 37])
def test_pixels_in_another_order(isa, poisoned, channels, before):
    size = (2, channels, 6, 8)
    moves = [
        {"shape": (24, 2, 2), "images": (2, 48, 3, 16, 4, 2), "pixels": (2, 8, 2, 1)},  # windows of 2 x 2
        {"shape": (2, 1, 48), "images": (2, 48), "pixels": (48, 1)} if before == "plain" else None,
        {"shape": (2, 3, 4), "images": (2, 48), "pixels": (3, 16, 4, 2)},  # every second pixel
        {"shape": (1, 3, 4), "images": (), "pixels": (3, 16, 4, 2), "offset": 48 + 9},  # of the second image
        {"shape": (2, 8, 6), "images": (2, 48), "pixels": (8, 1, 6, 8)},  # columns as rows
    ]
    for attrs in filter(None, moves):
        check("MovePixels", size, attrs, before)


@pytest.mark.parametrize("before", ["", "plain", "halo"])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("channels", [1, 3, 8, 16, 21])
def test_depth_to_space_and_back(isa, poisoned, channels, mode, before):
    for side in (1, 2, 3):
        attrs = {"blocksize": side, "mode": mode}
        check("DepthToSpace", (2, channels * side * side, 3, 4), attrs, before)
        check("SpaceToDepth", (2, channels, 4 * side, 3 * side), attrs, before)


@pytest.mark.parametrize("op", ["DepthToSpace", "SpaceToDepth"])
def test_between_convolutions_they_are_one_copy(op):
    rng = np.random.default_rng(0)
    behind = 16 if op == "DepthToSpace" else 256
    constants = {"v": rng.standard_normal((64, 64, 1, 1), np.float32)}
    constants["w"] = rng.standard_normal((32, behind, 3, 3), np.float32)
    conv = ops.get("Conv").defaults
    nodes = [
        Node("Conv", "a", ("x", "v"), "a", conv),
        Node(op, "b", ("a",), "b", {"blocksize": 2, "mode": "CRD"}),
        Node("Conv", "c", ("b", "w"), "y", conv),
    ]
    steps = compile_graph(Graph(nodes, {"x": (1, 64, 8, 8)}, ["y"], constants), {"x": (1, 64, 8, 8)}).steps
    assert [step.kernel for step in steps if step.name == "b"] == ["shuffle" if op == "DepthToSpace" else "unshuffle"]
    assert sum(step.kernel == "reorder" for step in steps) <= 2  # of the graph's input and output


def test_squares_that_do_not_fit_are_told():
    for op, attrs, message in [
        ("DepthToSpace", {"blocksize": 3}, "expected channels that 9 divides"),
        ("SpaceToDepth", {"blocksize": 3}, "expected height and width that 3 divides"),
        ("DepthToSpace", {"blocksize": 0}, "blocksize=0, expected"),
        ("SpaceToDepth", {"blocksize": 2, "mode": "RCD"}, "mode='RCD', expected DCR or CRD"),
    ]:
        with pytest.raises(ValueError, match=message):
            ops.get(op).infer({**ops.get(op).defaults, **attrs}, [(1, 16, 4, 4)])

"""Windows wholly in the padding, strides and dilation beyond the image, images of one pixel, four different paddings:
forward and backward, exact on integers, in poisoned memory, between guard pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import THREADS
from convolutions import extreme_case, extreme_pool
from memory_guard import fenced

import fastcnn as fc
from fastcnn import functional as F
from fastcnn import ops, reference
from fastcnn.compiler.choose import ALGORITHMS, Problem
from fastcnn.compiler.expand import expand
from fastcnn.compiler.plan import compile_graph
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels import _cpu

pytestmark = pytest.mark.usefixtures("isa", "poisoned")
CHUNKS = 10


def cases(count, chunk, kind):
    """The random numbers of each case of a chunk, and what they come from."""
    for i in range(count // CHUNKS):
        seed = [kind, chunk, i]
        rng = np.random.default_rng(seed)
        with fc.num_threads(int(rng.choice(THREADS))):
            yield rng, seed


def window(case):
    return case.stride, case.pads, case.dilation, case.groups


def attributes(case, **others):
    return dict(zip(("strides", "pads", "dilations", "group"), window(case), strict=True)) | others


def able(node, shapes, rng):
    """The node; of a convolution, with one of the algorithms that can compute it."""
    if node.op != "Conv":
        return node
    (_, ins, *_), weight = shapes[node.inputs[0]], shapes[node.inputs[1]]
    problem = Problem(ins, weight[0], node.attrs["group"], weight[2:], node.attrs["strides"], node.attrs["dilations"],
                      _cpu.vector_length(), (1, 1))
    names = [entry.name for entry in ALGORITHMS if not entry.why_not(problem)]
    return replace(node, attrs={**node.attrs, "algorithm": str(rng.choice(names))})


def between_steps(op, attrs, arrays, rng):
    """An operation whose operands come from other steps of a plan, and whose result goes to another one: maxima of
    single pixels. Its convolutions take any algorithm. The result, and whether all of them add the products as they
    are."""
    same = {**ops.get("MaxPool").defaults, "kernel_shape": (1, 1)}
    images = [name for name in arrays if name in ("x", "grad")]
    nodes = [Node("MaxPool", f"same {name}", (name,), f"same {name}", same) for name in images]
    operands = tuple(f"same {name}" if name in images else name for name in arrays)
    nodes += [Node(op, "op", operands, "y", {**ops.get(op).defaults, **attrs}),
              Node("MaxPool", "same y", ("y",), "same y", same)]
    shapes = {name: array.shape for name, array in arrays.items()}
    graph = expand(Graph(nodes, shapes, ["same y"], {}), shapes)
    found = graph.infer(shapes)
    plan = compile_graph(replace(graph, nodes=[able(node, found, rng) for node in graph.nodes]), shapes)
    out = fenced(np.full(plan.output_shapes[0], np.nan))
    plan.run([fenced(array) for array in arrays.values()], [out])
    return out, not any(step.kernel.startswith(("winograd", "weightgrad4")) for step in plan.steps)


def check(got, expected, sizes, exact, case):
    """Equal; where Winograd's algorithm computes it near, as `sizes` has it: the same of the operands' sizes."""
    assert got.shape == expected.shape, case
    if exact:
        assert np.array_equal(got, expected), case
    else:
        assert np.abs(got - expected).max(initial=0) <= 2e-5 * np.linalg.norm(sizes), case


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_convolutions(chunk, budget):
    for rng, seed in cases(budget(300, 20_000), chunk, 0):
        case = extreme_case(rng)
        case = replace(case, x=fenced(case.x), weight=fenced(case.weight))
        expected = case.expected()
        for algorithm in case.algorithms():
            out = fenced(np.full(expected.shape, np.nan))
            case.run(algorithm, out)
            check(out, expected, expected, True, (seed, algorithm, case))
        arrays = {"x": case.x, "weight": case.weight} | ({} if case.bias is None else {"bias": case.bias})
        out, exact = between_steps("Conv", attributes(case), arrays, rng)
        sizes = replace(case, **{name: np.abs(array) for name, array in arrays.items()}).expected()
        check(out, expected, sizes, exact, (seed, case))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_gradients_of_convolutions(chunk, budget):
    for rng, seed in cases(budget(300, 20_000), chunk, 1):
        case = extreme_case(rng)
        grad = rng.integers(-9, 10, case.expected().shape).astype(np.float32)
        x, weight, grad = fenced(case.x), fenced(case.weight), fenced(grad)
        size, kernel = x.shape[2:], weight.shape[2:]
        expected = reference.conv2d_grad_input(grad, weight, size, *window(case))
        sizes = reference.conv2d_grad_input(np.abs(grad), np.abs(weight), size, *window(case))
        out = fenced(np.full(x.shape, np.nan))
        # Where the weights are packed for this call alone, nothing is computed by Winograd's algorithm.
        check(F.conv2d_grad_input(grad, weight, size, *window(case), out=out), expected, sizes, True, (seed, case))
        out, exact = between_steps("ConvGradInput", attributes(case, size=size), {"grad": grad, "weight": weight}, rng)
        check(out, expected, sizes, exact, (seed, case))
        expected = reference.conv2d_grad_weight(x, grad, kernel, *window(case))
        sizes = reference.conv2d_grad_weight(np.abs(x), np.abs(grad), kernel, *window(case))
        out, exact = between_steps("ConvGradWeight", attributes(case, kernel_shape=kernel), {"x": x, "grad": grad}, rng)
        check(out, expected, sizes, exact, (seed, case))
        out = fenced(np.full(weight.shape, np.nan))
        F.conv2d_grad_weight(x, grad, kernel, *window(case), out=out)
        check(out, expected, sizes, exact, (seed, case))
        assert np.array_equal(F.conv2d_grad_bias(grad), reference.conv2d_grad_bias(grad)), (seed, case)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_pools_and_their_gradients(chunk, budget):
    for rng, seed in cases(budget(300, 20_000), chunk, 2):
        case = extreme_pool(rng)
        x, places, ceil_mode = fenced(case.x), (case.kernel, case.stride, case.pads), case.ceil_mode
        attrs = {"kernel_shape": case.kernel, "strides": case.stride, "pads": case.pads, "ceil_mode": int(ceil_mode)}
        maxima = (*places, case.dilation, ceil_mode), {**attrs, "dilations": case.dilation}
        check_pool("max_pool2d", x, *maxima, rng, seed)
        include = bool(rng.integers(2))
        means = (*places, ceil_mode, include), {**attrs, "count_include_pad": int(include)}
        check_pool("avg_pool2d", x, *means, rng, seed)


def check_pool(name, x, settings, attrs, rng, seed):
    """One kind of pool and its gradient."""
    op, case = {"max_pool2d": "MaxPool", "avg_pool2d": "AveragePool"}[name], (seed, settings, x)
    expected = getattr(reference, name)(x, *settings).astype(np.float32)
    out = fenced(np.full(expected.shape, np.nan))
    assert np.array_equal(getattr(F, name)(x, *settings, out=out), expected), case
    assert np.array_equal(between_steps(op, attrs, {"x": x}, rng)[0], expected), case
    grad = fenced(rng.integers(-9, 10, expected.shape).astype(np.float32))
    image, given = (x, {"grad": grad, "x": x}) if op == "MaxPool" else (x.shape[2:], {"grad": grad})
    expected, sizes = (getattr(reference, f"{name}_grad")(g, image, *settings) for g in (grad, np.abs(grad)))
    eager = getattr(F, f"{name}_grad")(grad, image, *settings, out=fenced(np.full(x.shape, np.nan)))
    attrs = attrs if op == "MaxPool" else {**attrs, "size": image}
    for got in (eager, between_steps(f"{op}Grad", attrs, given, rng)[0]):
        assert np.all(np.abs(got - expected) <= (0 if op == "MaxPool" else 1e-6) * sizes), case

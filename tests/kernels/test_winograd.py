"""Winograd convolution: bounded error, exact where that is possible, the same bits for any thread count and batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import THREADS
from convolutions import Case
from memory_guard import guarded

import fastcnn
from fastcnn import ops, reference
from fastcnn.compiler.choose import ALGORITHMS
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels import _cpu
from fastcnn.kernels._conv_winograd import patch_counts
from fastcnn.kernels._winograd_filters import filter_matrix

NAMES = {1: ("winograd", "winograd2", "winograd_lean", "winograd6"), 2: ("winograd2",)}  # by stride
KINDS = [(name, stride) for stride, names in NAMES.items() for name in names]


def winograd_cases(rng, count):
    """Random 3 x 3 convolutions of both strides, with the algorithms that take them."""
    for _ in range(count):
        batch, ins, outs = (int(v) for v in rng.integers(1, [4, 70, 90]))
        pads = tuple(int(p) for p in rng.integers(0, 4, 4))
        x = rng.standard_normal((batch, ins, *rng.integers(3, 20, 2))).astype(np.float32)
        weight = rng.standard_normal((outs, ins, 3, 3)).astype(np.float32)
        bias = rng.standard_normal(outs).astype(np.float32) if rng.random() < 0.5 else None
        for stride, algorithms in NAMES.items():
            yield algorithms, Case(x, weight, bias, (stride, stride), pads, (1, 1), 1)


def usual_norm(case):
    """The Euclidean norm that the result has on average, of random signs of the products: its own may be small by
    chance."""
    squares = replace(case, x=case.x.astype(np.float64) ** 2, weight=case.weight.astype(np.float64) ** 2, bias=None)
    return max(np.sqrt(squares.expected().sum()), 1e-30)


def error(y, expected, case):
    """The distance in the Euclidean norm, relative to the usual one."""
    return np.linalg.norm(y - expected) / usual_norm(case)


def bound(algorithm, case):
    entry = next(entry for entry in ALGORITHMS if entry.name == algorithm)
    return entry.error_of(case.x.shape[1])


@pytest.fixture
def isas():
    """All instruction sets of this machine, one of which is set after the other."""
    previous = _cpu.isa()
    yield _cpu.available_isas()
    _cpu.set_isa(previous)


def test_error_is_bounded(isas, poisoned, budget):
    """Five configurations a case: algorithms and strides. Each definition is computed once for all instruction sets."""
    rng = np.random.default_rng(21)
    for algorithms, case in winograd_cases(rng, budget(2_000, 100_000) // len(KINDS)):
        expected, norm = case.expected(), usual_norm(case)
        for isa in isas:
            _cpu.set_isa(isa)
            for algorithm in algorithms:
                out = guarded(expected.shape)
                with fastcnn.num_threads(int(rng.choice(THREADS))):
                    case.run(algorithm, out)
                assert np.linalg.norm(out - expected) <= bound(algorithm, case) * norm, (isa, algorithm, case)


@pytest.mark.parametrize(("algorithm", "stride"), KINDS)
@pytest.mark.parametrize(("channels", "outs", "size"), [(64, 64, 56), (256, 96, 14), (512, 40, 7), (3, 8, 33)])
def test_layers_of_networks(algorithm, stride, channels, outs, size, isa):
    rng = np.random.default_rng(22)
    x = np.maximum(rng.standard_normal((1, channels, size, size)), 0).astype(np.float32)
    weight = (rng.standard_normal((outs, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
    case = Case(x, weight, None, (stride, stride), (1, 1, 1, 1), (1, 1), 1)
    assert error(case.run(algorithm), case.expected(), case) <= bound(algorithm, case)


@pytest.mark.parametrize(("algorithm", "stride"), KINDS)
@pytest.mark.parametrize("channels", [1, 4, 16, 64, 298, 1024, 3000])
def test_errors_grow_with_the_root_of_the_channels(algorithm, stride, channels, isa):
    """And where all products are equal, with the channels."""
    rng = np.random.default_rng([31, channels])
    settings = None, (stride, stride), (1, 1, 1, 1), (1, 1), 1
    for _ in range(3):
        x = rng.standard_normal((1, channels, 8, 8)).astype(np.float32)
        weight = rng.standard_normal((3, channels, 3, 3)).astype(np.float32)
        for case in (Case(x, weight, *settings), Case(np.maximum(x, 0), weight, *settings)):
            expected = case.expected()
            distance = np.linalg.norm(case.run(algorithm) - expected)
            assert distance <= bound(algorithm, case) * np.linalg.norm(expected)
    case = Case(np.full_like(x, 1 / 3), np.full_like(weight, 1 / 3), *settings)
    expected = case.expected()
    distance = np.linalg.norm(case.run(algorithm) - expected)
    assert distance <= (bound(algorithm, case) + 6e-8 * channels) * np.linalg.norm(expected)


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (2, 4), (3, 15), (2, 56), (1, 112), (16, 56)])
def test_errors_of_weight_gradients_grow_with_the_root_of_the_pixels(batch, size, isa):
    rng = np.random.default_rng([32, size])
    x, grad = rng.standard_normal((2, batch, 16, size, size)).astype(np.float32)
    expected = reference.conv2d_grad_weight(x, grad, (3, 3), pads=(1, 1, 1, 1))
    distance = np.linalg.norm(fastcnn.functional.conv2d_grad_weight(x, grad, 3, padding=1) - expected)
    assert distance <= 5e-7 * np.sqrt(batch * size**2 + 8) * np.linalg.norm(expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_f2_is_exact_on_integers(stride, isa, poisoned):
    """Weights divisible by 4 make every number in F(2x2, 3x3) an integer; with stride 2 all do."""
    rng = np.random.default_rng(23)
    for _ in range(100):
        channels, outs, batch = (int(v) for v in rng.integers(1, [40, 40, 3]))
        x = rng.integers(-31, 32, (batch, channels, *rng.integers(3, 15, 2))).astype(np.float32)
        weight = (4 // stride**2 * rng.integers(-7, 8, (outs, channels, 3, 3))).astype(np.float32)
        case = Case(x, weight, None, (stride, stride), (1, 0, 2, 1), (1, 1), 1)
        assert np.array_equal(case.run("winograd2"), case.expected())


@pytest.mark.parametrize("m", [2, 4, 6])
def test_patches_cover_a_line(m):
    """As few as can be, and exactly unless all have an output fewer; all have m where that is asked for."""
    for size in range(1, 60):
        full, slim = patch_counts(size, m)
        outputs = full * m + slim * (m - 1)
        assert full + slim == -(-size // m) and outputs == max(size, (full + slim) * (m - 1))
        assert patch_counts(size, m, whole=True) == (full + slim, 0)


@pytest.mark.parametrize(("algorithm", "stride"), KINDS)
def test_every_size_of_the_last_patches(algorithm, stride, isa, poisoned):
    """Outputs of 1 x 1 to 13 x 13: patches with an output fewer in one direction, in both or in none."""
    rng = np.random.default_rng(30)
    weight = rng.standard_normal((19, 5, 3, 3)).astype(np.float32)
    for height in range(1, 14):
        for width in range(1, 14):
            size = [stride * (outputs - 1) + 3 for outputs in (height, width)]
            x = rng.standard_normal((2, 5, *size)).astype(np.float32)
            case = Case(x, weight, None, (stride, stride), (0, 0, 0, 0), (1, 1), 1)
            out = guarded((2, 19, height, width))
            case.run(algorithm, out)
            assert error(out, case.expected(), case) <= bound(algorithm, case), (height, width)


@pytest.mark.parametrize("algorithm", ["winograd", "winograd6", "winograd_lean"])
def test_only_f2_takes_stride_2(algorithm):
    x, weight = np.ones((1, 4, 9, 9), np.float32), np.ones((4, 4, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"stride \(2, 2\), dilation \(1, 1\): it takes 3 x 3, stride 1, dilation 1"):
        fastcnn.functional.conv2d(x, weight, stride=2, algorithm=algorithm)
    with pytest.raises(ValueError, match=r"stride \(1, 2\), .*: it takes 3 x 3, stride 1 or 2, dilation 1"):
        fastcnn.functional.conv2d(x, weight, stride=(1, 2), algorithm="winograd2")


def test_filters_that_two_strides_share(isa):
    """They are packed twice."""
    rng = np.random.default_rng(29)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 5, 9, 9), (7, 5, 3, 3)))
    attrs = {**ops.get("Conv").defaults, "algorithm": "winograd2"}
    nodes = [
        Node("Conv", y, ("x", "w"), y, {**attrs, "strides": (stride, stride)}) for y, stride in (("y1", 1), ("y2", 2))
    ]
    plan = compile_graph(Graph(nodes, {"x": x.shape}, ["y1", "y2"], {"w": weight}), {"x": x.shape})
    for stride, y in zip((1, 2), plan.run([x]), strict=True):
        np.testing.assert_allclose(y, reference.conv2d(x, weight, stride=(stride, stride)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("m", [2, 4, 6])
def test_matrices_compute_the_filter(m):
    """One dimension, in float64: A^T [(G g) * (B^T d)] is the sliding product of g and d."""
    p, q = np.sqrt(0.5), np.sqrt(2.0)
    if m == 2:
        b = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]])
        a = np.array([[1, 1, 1, 0], [0, 1, -1, 1]])
    elif m == 6:
        points = [p, -p, 1, -1, q, -q]
        whole = np.poly([0.0, *points])[::-1]  # coefficients of the product over all points, lowest first
        b = [
            np.append(np.poly([other for other in [0.0, *points] if other != point])[::-1], 0)
            for point in [0.0, *points]
        ]
        b = np.array([*b, whole])
        a = np.array([[i == 0, *(point**i for point in points), i == 5] for i in range(6)], float)
    else:
        points = [p, -p, q, -q]
        b = np.array(
            [
                [-1, 0, 2.5, 0, -1, 0],
                [0, -2 * p, -2, p, 1, 0],
                [0, 2 * p, -2, -p, 1, 0],
                [0, -q / 2, -0.5, q, 1, 0],
                [0, q / 2, -0.5, -q, 1, 0],
                [0, 1, 0, -2.5, 0, 1],
            ]
        )
        a = np.array([[i == 0, *(point**i for point in points), i == 3] for i in range(4)], float)
        a[:, 3:5] /= 2
    rng = np.random.default_rng(25)
    for _ in range(10):
        g, d = rng.standard_normal(3), rng.standard_normal(m + 2)
        np.testing.assert_allclose(a @ ((filter_matrix(m) @ g) * (b @ d)), np.correlate(d, g), atol=1e-12)


def test_matrices_compute_the_filter_with_stride_2():
    b = np.array([[1, 0, -1, 0, 0], [0, 0, 1, 0, 0], [0, 0, -1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]])
    a = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 1]])
    g, d = np.random.default_rng(28).standard_normal((2, 5))
    u = filter_matrix(2, 2)[[0, 1, 2, 3, 3]] @ g[:3]
    np.testing.assert_allclose(a @ (u * (b @ d)), np.correlate(d, g[:3])[::2], atol=1e-12)


@pytest.mark.parametrize(("algorithm", "stride"), KINDS)
@pytest.mark.parametrize("size", [(12, 8), (13, 9), (2, 3), (5, 22)])
@pytest.mark.parametrize("activation", [None, fastcnn.ReLU(), fastcnn.ReLU6()], ids=["none", "relu", "relu6"])
def test_maxima_inside(algorithm, stride, size, activation, isa, poisoned):
    """A maximum of 2 x 2 pixels after the convolution becomes part of it, whatever is left over at the border."""
    layers = [
        fastcnn.Conv2d(5, 19, 3, stride, padding=1, rng=26),
        *([activation] if activation else []),
        fastcnn.MaxPool2d(2),
    ]
    model, size = fastcnn.Sequential(*layers), tuple(stride * pixels for pixels in size)
    graph = model.graph((5, *size))
    plain, fused = (with_algorithm(graph, name) for name in ("direct", algorithm))
    x = np.random.default_rng(26).standard_normal((2, 5, *size)).astype(np.float32)
    x[0, 1, 0, 0] = np.nan
    results = []
    for own in (plain, fused):
        plan = compile_graph(own, {"x": x.shape})
        for threads in THREADS:
            with fastcnn.num_threads(threads):
                results.append(plan.run([x])[0])
    assert "pool" not in [step.kernel for step in plan.steps]
    for result in results[3:]:
        assert np.array_equal(result, results[3], equal_nan=True)
        # A NaN reaches all of its patch: the others must agree with the definition.
        number = ~np.isnan(result)
        assert np.isnan(result[np.isnan(results[0])]).all() and number[1].all()
        near = 5e-5 if algorithm == "winograd6" else 1e-5
        np.testing.assert_allclose(result[number], results[0][number], rtol=1e-4, atol=near)


@pytest.mark.parametrize("size", [(28, 28), (9, 17), (6, 33), (11, 8), (4, 4)])
@pytest.mark.parametrize("outs", [1, 4, 6, 7])
@pytest.mark.parametrize("stride", [1, (2, 1)])
@pytest.mark.parametrize("activation", [None, fastcnn.ReLU()], ids=["none", "relu"])
def test_maxima_of_few_channels_of_grey_images(size, outs, stride, activation, isa, poisoned):
    """They become part of the convolution where vectors hold its outputs, and have the bits of two steps."""
    layers = [fastcnn.Conv2d(1, outs, (3, 5), stride, padding=1, rng=27), *([activation] if activation else [])]
    conv, whole = fastcnn.Sequential(*layers), fastcnn.Sequential(*layers, fastcnn.MaxPool2d(2))
    x = np.random.default_rng(27).standard_normal((3, 1, *size)).astype(np.float32)
    x[0, 0, 2, 3] = np.nan
    expected = fastcnn.functional.max_pool2d(conv(x), 2)
    plan = compile_graph(whole.graph((1, *size)), {"x": x.shape})
    vl = _cpu.vector_length()
    inside = outs <= min(6, vl) and 2 * expected.shape[3] >= vl
    assert ("pool" in [step.kernel for step in plan.steps]) != inside
    for threads in THREADS:
        with fastcnn.num_threads(threads):
            np.testing.assert_array_equal(plan.run([x])[0], expected)


def with_algorithm(graph, name):
    nodes = [
        replace(node, attrs={**node.attrs, "algorithm": name}) if node.op == "Conv" else node for node in graph.nodes
    ]
    return Graph(nodes, graph.inputs, graph.outputs, graph.constants)


@pytest.mark.parametrize(
    "pool",
    [
        fastcnn.MaxPool2d(2, ceil_mode=True),
        fastcnn.MaxPool2d(3, 2),
        fastcnn.MaxPool2d(2, padding=1),
        fastcnn.AvgPool2d(2),
    ],
    ids=repr,
)
def test_other_pools_stay_outside(pool):
    graph = with_algorithm(fastcnn.Sequential(fastcnn.Conv2d(5, 19, 3), pool).graph((5, 9, 9)), "winograd")
    assert "pool" in [step.kernel for step in compile_graph(graph, {"x": (1, 5, 9, 9)}).steps]

"""Windows wholly in the padding, strides and dilation beyond the image, images of one pixel, four different paddings:
forward and backward, exact on integers, in poisoned memory, between guard pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import THREADS
from convolutions import any_algorithm, extreme_case, extreme_pool, node
from memory_guard import fenced
from training.networks import gradients, with_loss

import fastcnn as fc
from fastcnn import functional as F
from fastcnn import reference
from fastcnn.compiler import slices
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.expand import expanded
from fastcnn.graph.ir import Graph
from fastcnn.kernels import _bands, _cpu, _step

pytestmark = pytest.mark.usefixtures("isa", "poisoned")
CHUNKS = 10


def cases(count, chunk, kind):
    """The random numbers of each case of a chunk, and what they come from."""
    for i in range(count // CHUNKS):
        seed = [kind, chunk, i]
        rng = np.random.default_rng(seed)
        # Steps are cut as finely as can be in some cases: each asks whether to go on before it does a little.
        with pytest.MonkeyPatch.context() as patch, fc.num_threads(int(rng.choice(THREADS, p=(0.96, 0.02, 0.02)))):
            patch.setattr(_step, "LONGEST_PIECE", int(rng.choice([1, 10, 1 << 23], p=(0.2, 0.2, 0.6))))
            yield rng, seed


def window(case):
    return case.stride, case.pads, case.dilation, case.groups


def attributes(case, **others):
    return dict(zip(("strides", "pads", "dilations", "group"), window(case), strict=True)) | others


def between_steps(op, attrs, arrays, rng):
    """An operation whose operands come from other steps of a plan, and whose result goes to another one: maxima of
    single pixels. Its convolutions take any algorithm. The result, and whether all of them add the products as they
    are."""
    images = [name for name in arrays if name in ("x", "grad")]
    nodes = [node("MaxPool", (name,), f"same {name}", kernel_shape=(1, 1)) for name in images]
    operands = tuple(f"same {name}" if name in images else name for name in arrays)
    nodes += [node(op, operands, "y", **attrs), node("MaxPool", ("y",), "same y", kernel_shape=(1, 1))]
    shapes = {name: array.shape for name, array in arrays.items()}
    graph = Graph(nodes, shapes, ["same y"], {})
    graph = replace(graph, nodes=expanded(nodes, graph.infer(shapes)))
    found = graph.infer(shapes)
    plan = compile_graph(replace(graph, nodes=any_algorithm(graph.nodes, found, rng)), shapes)
    out = fenced(np.full(plan.output_shapes[0], np.nan))
    plan.run([fenced(array) for array in arrays.values()], [out])
    return out, not any(step.kernel.startswith(("winograd", "weightgrad4")) for step in plan.steps)


def sizes(arrays):
    return {name: np.abs(array) for name, array in arrays.items()}


def check(got, expected, sizes, exact, case):
    """Equal; where Winograd's algorithm computes it near, as `sizes` has it: the same of the operands' sizes."""
    assert got.shape == expected.shape, case
    if exact:
        assert np.array_equal(got, expected), case
    else:
        assert np.abs(got - expected).max(initial=0) <= 2e-5 * np.linalg.norm(sizes), case


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_convolutions(chunk, budget):
    for rng, seed in cases(budget(800, 20_000), chunk, 0):
        case = extreme_case(rng)
        case = replace(case, x=fenced(case.x), weight=fenced(case.weight))
        expected, arrays = case.expected(), {"x": case.x, "weight": case.weight}
        if case.bias is not None:
            arrays["bias"] = case.bias
        if rng.random() < 0.5:
            out, exact = fenced(np.full(expected.shape, np.nan)), True
            case.run(str(rng.choice(case.algorithms())), out)
        else:
            out, exact = between_steps("Conv", attributes(case), arrays, rng)
        check(out, expected, replace(case, **sizes(arrays)).expected(), exact, (seed, case))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_gradients_of_convolutions(chunk, budget):
    for rng, seed in cases(budget(800, 20_000), chunk, 1):
        case = extreme_case(rng)
        grad = rng.integers(-9, 10, case.expected().shape).astype(np.float32)
        x, weight, grad = fenced(case.x), fenced(case.weight), fenced(grad)
        settings = {"size": x.shape[2:]}, {"kernel_shape": weight.shape[2:]}
        check_gradient("input", {"grad": grad, "weight": weight}, settings[0], case, rng, seed)
        check_gradient("weight", {"x": x, "grad": grad}, settings[1], case, rng, seed)
        if case.bias is not None:
            assert np.array_equal(F.conv2d_grad_bias(grad), reference.conv2d_grad_bias(grad)), (seed, case)


def check_gradient(by, arrays, settings, case, rng, seed):
    """The gradient of a convolution by one of its operands: by a call, or inside a plan."""
    arguments = *settings.values(), *window(case)
    define, op = getattr(reference, f"conv2d_grad_{by}"), f"ConvGrad{by.capitalize()}"
    expected = define(*arrays.values(), *arguments)
    if rng.random() < 0.5:
        # Filters that are packed for this call alone are not worth transforming; gradients of filters are.
        exact = by == "input" or case.weight.shape[2:] != (3, 3)
        out = fenced(np.full(expected.shape, np.nan))
        getattr(F, f"conv2d_grad_{by}")(*arrays.values(), *arguments, out=out)
    else:
        out, exact = between_steps(op, attributes(case, **settings), arrays, rng)
    check(out, expected, define(*sizes(arrays).values(), *arguments), exact, (seed, case))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_pools_and_their_gradients(chunk, budget):
    for rng, seed in cases(budget(500, 20_000), chunk, 2):
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
    eager = rng.random() < 0.5
    got = getattr(F, name)(x, *settings, out=out) if eager else between_steps(op, attrs, {"x": x}, rng)[0]
    assert np.array_equal(got, expected), case
    grad = fenced(rng.integers(-9, 10, expected.shape).astype(np.float32))
    image, given = (x, {"grad": grad, "x": x}) if op == "MaxPool" else (x.shape[2:], {"grad": grad})
    expected, near = (getattr(reference, f"{name}_grad")(g, image, *settings) for g in (grad, np.abs(grad)))
    if eager:
        got = getattr(F, f"{name}_grad")(grad, image, *settings, out=fenced(np.full(x.shape, np.nan)))
    else:
        got, _ = between_steps(f"{op}Grad", attrs if op == "MaxPool" else {**attrs, "size": image}, given, rng)
    assert np.all(np.abs(got - expected) <= (0 if op == "MaxPool" else 1e-6) * near), case


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_bands(chunk, budget, monkeypatch):
    """A convolution and what reads it, some rows at a time."""
    monkeypatch.setattr(slices, "LARGE_BYTES", 0)
    found = set()
    for rng, seed in cases(budget(500, 20_000), chunk, 3):
        monkeypatch.setattr(_bands, "WINDOW_VECTORS", int(rng.choice([1, 100, 300, 1 << 20])))
        pooled, reader, kernel = rng.random() < 0.5, extreme_pool(rng), int(rng.choice([1, 3]))
        channels = _cpu.vector_length() * int(rng.integers(1, 4))
        x = rng.integers(-3, 4, (len(reader.x), 2, *reader.x.shape[2:])).astype(np.float32)
        weight = rng.integers(-3, 4, (channels, 2, kernel, kernel)).astype(np.float32)
        filters = rng.integers(-3, 4, (channels, 1, *reader.kernel)).astype(np.float32)
        pads = (kernel // 2,) * 4
        nodes = [node("Conv", ("x", "weight"), "conv", pads=pads, algorithm="direct")]
        expected = reference.conv2d(x, weight, pads=pads)
        if rng.random() < 0.5:
            nodes.append(node("Relu", ("conv",), "relu"))
            expected = np.maximum(expected, 0)
        window = {"strides": reader.stride, "pads": reader.pads, "dilations": reader.dilation}
        if pooled:
            nodes.append(
                node(
                    "MaxPool",
                    (nodes[-1].output,),
                    "y",
                    kernel_shape=reader.kernel,
                    ceil_mode=int(reader.ceil_mode),
                    **window,
                )
            )
            expected = reference.max_pool2d(expected, reader.kernel, *window.values(), reader.ceil_mode)
        else:
            nodes.append(node("Conv", (nodes[-1].output, "filters"), "y", group=channels, **window))
            expected = reference.conv2d(expected, filters, None, *window.values(), channels)
        nodes.append(node("MaxPool", ("y",), "same y", kernel_shape=(1, 1)))
        graph = Graph(nodes, {"x": x.shape}, ["same y"], {"weight": weight, "filters": filters})
        out = fenced(np.full(expected.shape, np.nan))
        plan = compile_graph(graph, {"x": x.shape})
        plan.run([fenced(x)], [out])
        assert np.array_equal(out, expected), seed
        found |= {step.kernel for step in plan.steps}
    assert {"direct + pool", "direct + depthwise"} <= found


# Images of which the windows of a second layer see nothing.
UNSEEN = {
    "stride beyond the image": ((8, 1), {"kernel_size": 2, "stride": (1, 9999), "padding": (0, 9998, 0, 0)}),
    "all in the padding": ((1, 10), {"kernel_size": (1, 2), "stride": (2, 1), "padding": (1, 0, 0, 0)}),
}


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("which", UNSEEN)
def test_training_changes_nothing_that_no_window_sees(which, channels):
    size, settings = UNSEEN[which]
    model = fc.Sequential(
        fc.Conv2d(1, channels, 3, padding=1),
        fc.Conv2d(channels, channels, **settings),
        fc.GlobalAvgPool2d(),
        fc.Flatten(),
        fc.Linear(channels, 2),
    )
    before = model.state_dict()
    x = np.random.default_rng(0).standard_normal((2, 1, *size)).astype(np.float32)
    assert np.isfinite(fc.Trainer(model, fc.SGD(0.5)).step(x, np.array([0, 1])))
    changed = [name for name, after in model.state_dict().items() if not np.array_equal(after, before[name])]
    assert changed == ["1.bias", "4.weight", "4.bias"]
    model.fit(x, [0, 1], epochs=1)
    assert all(np.isfinite(array).all() for array in model.state_dict().values())


def test_gradients_of_what_no_window_sees_are_zero():
    grad, weight = np.ones((1, 1, 3, 1), np.float32), np.ones((1, 1, 2, 2), np.float32)
    dx = F.conv2d_grad_input(grad, weight, (4, 1), stride=(1, 9999), padding=(0, 9998, 0, 0))
    assert np.array_equal(dx, np.zeros((1, 1, 4, 1)))
    grad, weight = np.ones((1, 16, 1, 9), np.float32), np.ones((16, 16, 1, 2), np.float32)
    dx = F.conv2d_grad_input(grad, weight, (1, 10), stride=(2, 1), padding=(1, 0, 0, 0))
    assert np.array_equal(dx, np.zeros((1, 16, 1, 10)))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_steps_of_training(chunk, budget):
    """Every gradient of three layers, the one in the middle of extreme geometry, against the definitions."""
    for rng, seed in cases(budget(20, 1_000), chunk, 4):
        case = extreme_case(rng)
        ins, outs, kernel = case.x.shape[1], case.weight.shape[0], case.weight.shape[2:]
        middle = fc.Conv2d(
            ins, outs, kernel, case.stride, padding=case.pads, dilation=case.dilation, groups=case.groups, rng=1
        )
        model = fc.Sequential(
            fc.Conv2d(2, ins, 3, padding=1, rng=0),
            middle,
            fc.Conv2d(outs, 2, 1, rng=2),
            fc.GlobalAvgPool2d(),
            fc.Flatten(),
        )
        x = rng.standard_normal((len(case.x), 2, *case.x.shape[2:])).astype(np.float32)
        y = rng.integers(0, 2, len(x))
        before = model.state_dict()
        loss = fc.Trainer(model, fc.SGD(1.0)).step(fenced(x), y)
        graph = with_loss(model.graph(x.shape[1:]), "CrossEntropy", (len(x), 2))
        graph.constants.update(before)
        expected_loss, expected = gradients(graph, {"x": x, "target": np.eye(2)[y] / len(x)}, "loss")
        assert abs(loss - expected_loss) <= 1e-5, (seed, case)
        for name, after in model.state_dict().items():
            wrong = np.abs(before[name] - after - expected[name]).max()
            assert wrong <= 2e-6 * (1 + np.abs(after).max() + np.abs(expected[name]).max()), (seed, name, case)

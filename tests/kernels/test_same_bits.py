"""The same bits for any number of threads and any place in a batch: forward, backward, and after a hundred steps of
training. All work is shared by threads here, however small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from convolutions import any_algorithm, extreme_case, node, random_case

import fastcnn as fc
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.expand import expanded
from fastcnn.graph.ir import Graph
from fastcnn.kernels import _cpu, _step

pytestmark = pytest.mark.usefixtures("poisoned")
THREADS = (1, 2, 3, 4, 7, 8, 16)
BATCHES = (1, 2, 3, 8, 17)
CHUNKS = 5
MOST_PRODUCTS = 5_000_000  # of a batch


def layers(rng):
    """A convolution and its gradients, an activation, a mean of windows and its gradient; the arrays of a batch."""
    while True:
        case = extreme_case(rng) if rng.random() < 0.3 else random_case(rng, integers=False)
        batch, outputs = int(rng.choice(BATCHES)), case.expected().shape[1:]
        if batch * np.prod(outputs) * case.terms() < MOST_PRODUCTS:
            break
    kernel, size = case.weight.shape[2:], case.x.shape[2:]
    window = {"strides": case.stride, "pads": case.pads, "dilations": case.dilation, "group": case.groups}
    pooled = {"kernel_shape": (3, 3), "strides": (2, 1), "pads": (1, 1, 1, 1)}
    nodes = [
        node("Conv", ("x", "weight"), "conv", **window),
        node(str(rng.choice(["Relu", "Swish"])), ("conv",), "act"),
        node("AveragePool", ("act",), "y", **pooled),
        node("AveragePoolGrad", ("pooled",), "grad", **pooled, size=outputs[1:]),
        node("ConvGradInput", ("grad", "weight"), "dx", **window, size=size),
        node("ConvGradWeight", ("x", "grad"), "dw", **window, kernel_shape=kernel),
        node("ChannelSum", ("grad",), "db"),
    ]
    shapes = {"x": case.x[:1].shape, "weight": case.weight.shape, "pooled": (1, *outputs)}
    shapes["pooled"] = Graph(nodes[:3], {**shapes}, ["y"], {}).infer(shapes)["y"]
    graph = Graph(nodes, shapes, ["y", "dx", "dw", "db"], {})
    graph = replace(graph, nodes=expanded(graph.nodes, graph.infer(shapes)))
    graph = replace(graph, nodes=any_algorithm(graph.nodes, graph.infer(shapes), rng))
    arrays = {name: rng.standard_normal((batch, *shape[1:]), np.float32) for name, shape in shapes.items()}
    return graph, arrays | {"weight": rng.standard_normal(case.weight.shape, np.float32)}


def compiled(graph, arrays):
    shapes = {name: array.shape for name, array in arrays.items()}
    return compile_graph(replace(graph, inputs=shapes), shapes)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_layers_and_their_gradients(chunk, budget):
    for i in range(budget(500, 10_000) // CHUNKS // len(_cpu.available_isas())):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_step, "LONGEST_PIECE", (1 << 23, 1, 50)[i % 3])  # cut as usual, or finely
            check_layers(np.random.default_rng([chunk, i]), (chunk, i))


def check_layers(rng, seed):
    graph, arrays = layers(rng)
    plan, results = compiled(graph, arrays), []
    for threads in THREADS:
        with fc.num_threads(threads):
            results.append(plan.run(list(arrays.values())))
        for result, expected in zip(results[-1], results[0], strict=True):
            assert np.array_equal(result, expected), (seed, threads)
    images = [
        {**arrays, "x": x[None], "pooled": grad[None]} for x, grad in zip(arrays["x"], arrays["pooled"], strict=True)
    ]
    alone = compiled(graph, images[0])
    for place, image in enumerate(images):
        for result, expected in zip(alone.run(list(image.values()))[:2], results[0], strict=False):
            assert np.array_equal(result[0], expected[place]), (seed, place)


def trained(batch, threads):
    """The losses and parameters of a small network."""
    model = fc.Sequential(
        fc.Conv2d(2, 5, 3, padding=1, rng=0),
        fc.BatchNorm2d(5),
        fc.ReLU(),
        fc.Conv2d(5, 5, 3, 2, groups=5, rng=1),
        fc.Dropout(0.2),
        fc.GlobalAvgPool2d(),
        fc.Flatten(),
        fc.Linear(5, 3, rng=2),
    )
    with fc.num_threads(threads):
        trainer = fc.Trainer(model, fc.Adam(1e-2), clip_norm=0.5, seed=3)
        rng = np.random.default_rng(batch)
        losses = [
            trainer.step(rng.standard_normal((batch, 2, 7, 6), np.float32), rng.integers(0, 3, batch))
            for _ in range(100)
        ]
    return losses, model.state_dict()


def test_a_hundred_steps_of_training(budget):
    for batch in budget((3,), BATCHES):
        expected = trained(batch, 1)
        for threads in THREADS[1:]:
            losses, state = trained(batch, threads)
            assert losses == expected[0] and np.isfinite(losses).all(), threads
            assert all(np.array_equal(state[name], array) for name, array in expected[1].items()), threads


NETWORKS = (
    "lenet",
    "small_cnn",
    "resnet20",
    "squeezenet1_1",
    "mobilenet_v2",
    "efficientnet_lite0",
    "resnet18",
    "resnet50",
    "vgg16",
)


def test_networks(budget):
    """Predictions of a reproducible model: each image's are those that it has alone."""
    for name in budget(NETWORKS[:1], NETWORKS):
        model = fc.zoo.build(name)
        model.reproducible = True
        images = np.random.default_rng(0).standard_normal((max(BATCHES), *model.input_shape), np.float32)
        expected = np.concatenate([model(image[None]) for image in images])
        for batch in BATCHES:
            for threads in THREADS:
                with fc.num_threads(threads):
                    assert np.array_equal(model(images[:batch]), expected[:batch]), (name, batch, threads)


def test_places_in_a_batch(budget):
    """Predictions of any model: the same for any number of threads and any order of the images."""
    for name in budget(NETWORKS[:2], NETWORKS):
        model = fc.zoo.build(name)
        rng = np.random.default_rng(0)
        images = rng.standard_normal((max(BATCHES), *model.input_shape), np.float32)
        for batch in BATCHES:
            with fc.num_threads(1):
                expected = model(images[:batch])
            order = rng.permutation(batch)
            for threads in THREADS:
                with fc.num_threads(threads):
                    assert np.array_equal(model(images[:batch][order]), expected[order]), (name, batch, threads)

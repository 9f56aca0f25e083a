"""The compiler: random networks compute what their nodes are defined to, however they are folded, fused, laid out and
placed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from definitions import evaluate
from random_graphs import Builder, residual_graph

import fastcnn
from fastcnn.compiler.compile import compile_graph


@pytest.mark.parametrize("chunk", range(5))
def test_random_networks(chunk, isa, poisoned, budget):
    rng = np.random.default_rng([13, chunk])
    for _ in range(budget(200, 10_000) // 5):
        graph = Builder(rng).graph()
        batch = int(rng.integers(1, 4))
        x = rng.standard_normal((batch, *graph.inputs["x"][1:])).astype(np.float32)
        plan = compile_graph(graph, {"x": x.shape})
        expected = evaluate(graph, x=x)[graph.outputs[0]]
        results = []
        for threads in (1, 2, 3):
            with fastcnn.num_threads(threads):
                results += [plan.run([x])[0] for _ in range(2)]
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-5 * scale)
        assert all(np.array_equal(result, results[0]) for result in results), "bits depend on threads or repetition"


def test_graphs_are_not_changed():
    graph = residual_graph()
    before = graph.to_json()
    compile_graph(graph, {"x": (1, 16, 6, 6)})
    assert graph.to_json() == before


def test_one_plan_many_callers(budget):
    plan = compile_graph(residual_graph(), {"x": (1, 16, 6, 6)})
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((1, 16, 6, 6)).astype(np.float32) for _ in range(8)]
    expected = [plan.run([x])[0] for x in inputs]
    wrong = []

    def call(i):
        for _ in range(budget(200, 1000)):
            if not np.array_equal(plan.run([inputs[i]])[0], expected[i]):
                wrong.append(i)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_flat_memory_over_many_shapes(budget):
    """Eager plans are forgotten: memory does not grow with the number of shapes met."""
    rng = np.random.default_rng(2)
    weight = np.ones((8, 4, 3, 3), np.float32)

    def resident():
        with open("/proc/self/status") as file:  # pages of files come and go with the system's needs
            return 1024 * int(next(line for line in file if line.startswith("RssAnon")).split()[1])

    def call(count):
        for _ in range(count):
            h, w = rng.integers(3, 64, 2)
            fastcnn.functional.conv2d(np.zeros((1, 4, h, w), np.float32), weight)

    call(500)
    before = resident()
    call(budget(1_000, 10_000))
    assert resident() < 1.05 * before + (8 << 20)

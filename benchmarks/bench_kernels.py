"""Times convolution algorithms, against NumPy and on every layer of well-known networks: `pytest benchmarks/`.

The first table has eager calls: packing of weights and reordering of images are part of the time. Layers of bytes are
timed as the steps that they are within a plan, against the peak of products of bytes. In the other tables, each
network runs on a single image with every algorithm in turn. Each kind of layer is timed within its network. There is
a table for each instruction set of this machine (`-k avx2` takes one). OMP_NUM_THREADS applies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fastcnn.cli._shapes import LAYERS
from fastcnn.cli.bench import candidates
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.tune import measure
from fastcnn.kernels import _cpu

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "peers")]
from bytes_of_layers import call_of  # noqa: E402
from networks import NETWORKS  # noqa: E402

CASES = [pytest.param(layer, name, id=f"{layer.name}-{name}") for layer in LAYERS for name in candidates(layer)]
REPEATS = 11


@pytest.mark.parametrize(("layer", "name"), CASES)
def test_convolution(layer, name, benchmark, report):
    benchmark.group = layer.name
    call = candidates(layer)[name]
    benchmark.pedantic(call, rounds=REPEATS, warmup_rounds=2)
    if benchmark.stats is not None:  # --benchmark-disable
        report(layer.name, name, layer.operations, benchmark.stats.stats.median)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_of_bytes(layer, benchmark, report):
    benchmark.group = layer.name
    benchmark.pedantic(call_of(layer), rounds=5 * REPEATS, iterations=4, warmup_rounds=2)
    if benchmark.stats is not None:  # --benchmark-disable
        report(layer.name, "bytes", layer.operations, benchmark.stats.stats.median)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("isa", _cpu.available_isas())
def test_network(isa, network, benchmark, report):
    benchmark.group = isa
    build, shape = NETWORKS[network]
    previous = _cpu.set_isa(isa)
    try:
        graph = build().graph(shape)
        x = np.random.default_rng(0).random((1, *shape), np.float32)
        steps = compile_graph(graph, {"x": x.shape}, whole=True).steps
        found = benchmark.pedantic(measure, (graph, {"x": x}, 1 if benchmark.disabled else REPEATS), rounds=1)
        operations = {step.problem: step.operations for step in steps}
        for problem, times in found.items():
            for algorithm, seconds in times.items():
                report(f"{network}: {problem}", algorithm, operations[problem], seconds)
    finally:
        _cpu.set_isa(previous)

"""Convolution algorithms and NumPy on layers of well-known networks: `pytest benchmarks/`.

Eager calls: packing of weights and reordering of images are part of the time. OMP_NUM_THREADS and FASTCNN_ISA apply.
"""

from __future__ import annotations

import pytest

from fastcnn.cli._shapes import LAYERS
from fastcnn.cli.bench import candidates

CASES = [
    pytest.param(layer, name, id=f"{layer.name}-{name}") for layer in LAYERS for name in candidates(layer)
]


@pytest.mark.parametrize(("layer", "name"), CASES)
def test_convolution(layer, name, benchmark, report):
    benchmark.group = layer.name
    call = candidates(layer)[name]
    benchmark.pedantic(call, rounds=11, warmup_rounds=2)
    report(layer.name, name, layer.operations)

"""Tracing: forward methods become graphs, whose nodes are named after layers."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.graph.trace import scope, trace


class Branches(fastcnn.Model):
    def __init__(self):
        self.conv = fastcnn.Conv2d(2, 4, 3, padding=1)
        self.block = fastcnn.Sequential(fastcnn.Conv2d(4, 4, 1), fastcnn.ReLU())

    def forward(self, x):
        x = self.conv(x)
        y = self.block(x) + x
        return F.concat([2.0 * y, y * x, np.float32(1) + y])


def test_trace_names_nodes_after_layers():
    graph = Branches().graph((2, 5, 5))
    graph.validate()
    names = [node.name for node in graph.nodes]
    assert names[:3] == ["conv", "block.0", "block.1"] and len(set(names)) == len(names)
    assert {"conv.weight", "block.0.bias"} <= set(graph.constants)
    assert graph.inputs == {"x": (None, 2, 5, 5)}


class Looks(fastcnn.Model):
    def __init__(self, look):
        self.look = look

    def forward(self, x):
        return self.look(x)


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x if x > 0 else x,
        lambda x: np.asarray(x),
        lambda x: float(x),
        lambda x: list(x),
        lambda x: x[0],
        lambda x: len(x),
        lambda x: x if x else x,
        lambda x: np.zeros(3),
        lambda x: None,
        lambda x: (x, x),
    ],
)
def test_forward_cannot_look_at_numbers(look):
    with pytest.raises(TypeError, match=r"has no values while a model is traced|forward returned"):
        trace(Looks(look), (4,))


def test_symbols_of_another_model_are_refused():
    kept = []
    trace(Looks(lambda x: kept.append(x) or F.relu(x)), (4,))
    with pytest.raises(ValueError, match="belongs to another model"):
        trace(Looks(lambda x: x + kept[0]), (4,))


def test_a_model_that_does_nothing():
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    assert np.array_equal(Looks(lambda x: x)(x), x)
    assert np.array_equal(Looks(lambda x: F.dropout(F.dropout(x)))(x), x)


def test_arrays_are_constants_once_and_parameters_keep_their_names():
    shift = np.ones(4, np.float32)
    layer = fastcnn.Linear(4, 4, rng=0)

    class Shifts(fastcnn.Model):
        def __init__(self):
            self.layer = layer

        def forward(self, x):
            return self.layer(self.layer(x) + shift) + shift

    graph = trace(Shifts(), (4,))
    assert set(graph.constants) == {"layer.weight", "layer.bias", "const_2"}
    assert graph.constants["const_2"] is not None and np.array_equal(graph.constants["const_2"], shift)
    assert [node.name for node in graph.nodes] == ["layer", "add", "layer.gemm_1", "add_1"]


def test_scopes_name_what_is_made_inside_and_nothing_where_nothing_is_traced():
    class Scoped(fastcnn.Model):
        def forward(self, x):
            with scope("head"):
                x = F.relu(x)
            return F.tanh(x)

    assert [node.name for node in trace(Scoped(), (4,)).nodes] == ["head", "tanh"]
    with scope("nothing"):
        assert F.relu(np.float32([-1.0])) == 0


def test_shapes_that_do_not_fit_are_told_while_tracing():
    class Wrong(fastcnn.Model):
        def forward(self, x):
            return F.max_pool2d(x, 9)

    with pytest.raises(ValueError, match="kernel_size=.* covers 9 pixels"):
        trace(Wrong(), (3, 8, 8))

"""What holds after each pass: every rule is broken once, by a pass that is spoilt, and the fault is named there."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastcnn
from fastcnn.compiler import compile as compiling
from fastcnn.compiler.compile import PASSES, compile_graph
from fastcnn.compiler.verify import MADE_BY, STAGES, TYPES, verify
from fastcnn.ops.decisions import ConvChoice, Decisions, Finish, Scale


class Net(fastcnn.Model):
    """Images of 16 channels, so that all layouts of all vector lengths occur."""

    def __init__(self):
        self.conv1 = fastcnn.Conv2d(3, 16, 3, padding=1, algorithm="direct", rng=0)
        self.norm = fastcnn.BatchNorm2d(16)
        self.conv2 = fastcnn.Conv2d(16, 16, 3, padding=1, algorithm="direct", rng=1)
        self.conv3 = fastcnn.Conv2d(16, 16, 1, algorithm="direct", rng=2)
        self.fc = fastcnn.Linear(32, 5, rng=3)
        self.input_shape = (3, 9, 9)

    def forward(self, x):
        x = fastcnn.functional.relu(self.norm(self.conv1(x)))
        both = fastcnn.functional.concat([self.conv2(x), self.conv3(x)])
        return self.fc(fastcnn.functional.flatten(fastcnn.functional.global_avg_pool2d(both)))


def spoilt(monkeypatch, stage, spoil):
    """Compile the network, where one pass gives a spoilt state."""
    index = STAGES.index(stage)

    def wrong(state):
        return spoil(PASSES[index](state))

    wrong.__name__ = stage
    monkeypatch.setattr(compiling, "PASSES", (*PASSES[:index], wrong, *PASSES[index + 1 :]))
    compile_graph(Net().graph(), {"x": (2, 3, 9, 9)})


def with_node(change, op="Conv"):
    """A spoil: the first node of an operation is another one; readers and shapes are looked up anew."""

    def spoil(state):
        nodes = list(state.graph.nodes)
        i = next(i for i, node in enumerate(nodes) if node.op == op)
        nodes[i] = change(nodes[i])
        return replace(state, graph=replace(state.graph, nodes=nodes))

    return spoil


def with_graph(**changes):
    return lambda state: replace(state, graph=replace(state.graph, **changes))


def with_shape(name, shape):
    return lambda state: replace(state, shapes={**state.shapes, name: shape})


def plain_convolution(state):
    """The first convolution's output is said to be plain."""
    name = next(node.output for node in state.graph.nodes if node.op == "Conv")
    return replace(state, layouts=replace(state.layouts, lanes={**state.layouts.lanes, name: 1}))


def reversed_nodes(state):
    return replace(state, graph=replace(state.graph, nodes=state.graph.nodes[::-1]))


def stale_users(state):
    spoilt = replace(state)
    spoilt.__dict__["users"] = dict.fromkeys(state.users, ())
    return spoilt


def without_halos(state):
    return replace(state, layouts=replace(state.layouts, halos={}, joins={}))


def on_top_of_each_other(state):
    """Every value of the arena at its start."""
    views = {
        name: view._replace(offset=view.halo[0] * view.row + view.halo[1] * view.lanes) if view.slot == 0 else view
        for name, view in state.placement.views.items()
    }
    return replace(state, placement=replace(state.placement, views=views))


def outside_the_arena(state):
    return replace(state, placement=replace(state.placement, arena_bytes=0))


def one_wider(state):
    views = dict(state.placement.views)
    name = next(node.output for node in state.graph.nodes if node.op == "Conv")
    views[name] = views[name]._replace(w=views[name].w + 1)
    return replace(state, placement=replace(state.placement, views=views))


def choosing(**changes):
    return with_node(lambda node: node.deciding(choice=replace(node.choice, **changes)))


SPOILS = {
    "order": ("fold", reversed_nodes, "which is not made before"),
    "made twice": ("fold", with_node(lambda node: replace(node, output="x")), "its output 'x' is made twice"),
    "unknown name": (
        "fold",
        with_node(lambda node: replace(node, inputs=("other", *node.inputs[1:]))),
        "reads 'other'",
    ),
    "unknown output": ("fold", with_graph(outputs=["other"]), "output 'other' is not made"),
    "users": ("fuse", stale_users, "its users are those of another graph"),
    "shape": ("fold", with_shape("norm:0", (2, 16, 9, 8)), "it gives (2, 16, 9, 9), known as (2, 16, 9, 8)"),
    "constant": ("fold", with_shape("fc.bias", (6,)), "constant 'fc.bias': shape (5,), known as (6,)"),
    "loose attribute": (
        "fuse",
        with_node(lambda node: replace(node, attrs={**node.attrs, "pool": True})),
        "attributes ['algorithm', 'auto_pad'",
    ),
    "untyped": ("fold", with_node(lambda node: node.deciding(scale=("norm", 2.0))), "scale is tuple, expected Scale"),
    "too early": (
        "expand",
        with_node(lambda node: node.deciding(finish=Finish(("Relu", {})))),
        "finish is decided before fuse",
    ),
    "pool too early": (
        "choose_algorithms",
        with_node(lambda node: node.deciding(finish=Finish(pool=True))),
        "a pool is inside before fuse_pools",
    ),
    "no choice": ("choose_algorithms", with_node(lambda node: node.deciding(choice=None)), "no algorithm is chosen"),
    "no such algorithm": ("choose_algorithms", choosing(algorithm="fft"), "algorithm 'fft' on blocked values"),
    "layout of another": ("choose_algorithms", choosing(layout="plain"), "algorithm 'direct' on plain values"),
    "kernel": ("choose_algorithms", choosing(kernel=(5, 5)), "kernel (5, 5), its filters have (3, 3)"),
    "padding": ("choose_algorithms", choosing(pads=(0, 0, 0, 0)), "padding (0, 0, 0, 0) is not that"),
    "factors": (
        "fold",
        with_node(lambda node: node.deciding(scale=Scale("norm", np.ones(3)))),
        "(3,) factors, it has 16 filters",
    ),
    "places": ("fold_shuffles", with_node(lambda node: node.deciding(places=(0, 0, 1))), "are not those of 3 channels"),
    "no layouts": ("arrange", lambda state: replace(state, layouts=None), "layouts are there before"),
    "no places": ("place", lambda state: replace(state, placement=None), "or none after"),
    "edges": ("arrange", plain_convolution, "lanes, and writes "),
    "halo": ("arrange", without_halos, "it reads (1, 1, 1, 1) zeros around"),
    "on top": ("place", on_top_of_each_other, "which is still read"),
    "outside": ("place", outside_the_arena, "lies outside the arena"),
    "view": ("place", one_wider, "lies as View"),
}


@pytest.mark.parametrize("rule", SPOILS)
def test_a_spoilt_pass_is_named(rule, monkeypatch):
    stage, spoil, message = SPOILS[rule]
    monkeypatch.setattr(compiling, "after_pass", verify)
    with pytest.raises(AssertionError) as caught:
        spoilt(monkeypatch, stage, spoil)
    assert message in str(caught.value)


def test_a_pass_that_spoils_nothing_passes(monkeypatch):
    monkeypatch.setattr(compiling, "after_pass", verify)
    for stage in STAGES:
        spoilt(monkeypatch, stage, lambda state: state)


def test_users_pay_nothing_and_tests_verify():
    code = "import fastcnn.compiler.compile as c, sys; print(c.after_pass, 'fastcnn.compiler.verify' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["None", "False"]
    assert compiling.after_pass is verify


def test_every_decision_has_its_pass_and_type():
    assert set(MADE_BY) == set(TYPES) == set(Decisions.__dataclass_fields__)
    assert set(MADE_BY.values()) <= set(STAGES)
    empty = Decisions()
    assert all(isinstance(getattr(empty, name), kinds) for name, kinds in TYPES.items())
    assert isinstance(ConvChoice("direct", "blocked", (3, 3), (0, 0, 0, 0)), TYPES["choice"])

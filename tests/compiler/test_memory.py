"""Places in the arena and waits for other threads, against the plain rules that they follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from random_graphs import Builder

from fastcnn.compiler import layout, memory
from fastcnn.compiler.memory import Waits, _Occupied
from fastcnn.compiler.state import Options, State
from fastcnn.kernels.view import dense_view
from fastcnn.ops.decisions import ConvChoice


def lowest(placed, size, born, dies):
    """The offset by going through all that are placed."""
    offset = 0
    for start, end, first, last in sorted(placed):
        if first <= dies and born <= last and start < offset + size and offset < end:
            offset = end
    return offset


def test_places_are_the_lowest_that_are_free(budget):
    rng = np.random.default_rng(5)
    for _ in range(budget(300, 20_000)):
        count = int(rng.integers(1, 40))
        occupied, placed = _Occupied(count), []
        for _ in range(count):
            size, born = int(rng.integers(0, 6)) * 16, int(rng.integers(20))
            dies = born + int(rng.integers(12))
            offset = lowest(placed, size, born, dies)
            assert occupied.place(size, born, dies) == offset
            placed.append((offset, offset + size, born, dies))


def test_steps_wait_where_memory_meets(budget):
    rng = np.random.default_rng(6)
    for _ in range(budget(200, 10_000)):
        waits, written, read = Waits(), [], []
        for _ in range(30):
            views = [
                dense_view((int(rng.integers(1, 9)),), int(rng.integers(3)))._replace(offset=int(rng.integers(60)))
                for _ in range(3)
            ]
            stretches = [(view.slot, view.offset, view.offset + view.image) for view in views]

            def meets(one, others):
                return any(one[0] == slot and one[1] < end and start < one[2] for slot, start, end in others)

            target, *sources = stretches
            expected = meets(target, written + read) or any(meets(source, written) for source in sources)
            assert waits.before(views[:1], views[1:]) == expected
            if expected:
                written, read = [], []
            written.append(target)
            read += sources


def alive_together(placer, a, b):
    (a, b), dies = sorted((a, b), key=placer.born.get), placer.dies
    return placer.born[b] <= dies.get(a, placer.born[a])


def test_values_alive_together_never_overlap():
    rng = np.random.default_rng(14)
    for _ in range(100):
        graph = Builder(rng).graph()
        shapes = graph.infer({"x": (2, *graph.inputs["x"][1:])})
        nodes = [
            n.deciding(choice=ConvChoice("direct", "blocked", shapes[n.inputs[1]][2:], n.attrs["pads"]))
            if n.op == "Conv" and n.attrs["group"] == 1 and n.attrs["auto_pad"] == "NOTSET"
            else n
            for n in graph.nodes
            if n.op != "Conv" or (n.attrs["group"] == 1 and n.attrs["auto_pad"] == "NOTSET")
        ]
        if len(nodes) != len(graph.nodes):
            continue
        state = State(replace(graph, nodes=nodes), shapes, Options(vl=8))
        placer = memory._Placer(layout.arrange(state))
        placement = placer.run()
        offsets, total = placer.pack()
        assert total == placement.arena_bytes <= sum(size + memory.LINE_BYTES for size in placer.sizes.values())
        for a in offsets:
            assert offsets[a] % memory.LINE_BYTES == 0
            for b in offsets:
                apart = offsets[a] + placer.sizes[a] <= offsets[b] or offsets[b] + placer.sizes[b] <= offsets[a]
                assert a == b or apart or not alive_together(placer, a, b), (a, b)

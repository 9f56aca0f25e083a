"""Places in the arena and waits for other threads, against the plain rules that they follow."""

from __future__ import annotations

import numpy as np

from fastcnn.compiler.memory import Waits, _Occupied
from fastcnn.kernels.view import dense_view


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

"""Memory: where every value lies in the arena that the values of a plan share.

Two values that are alive at the same time never overlap. An element-wise step writes over an input that is not read
after it.

The largest value is placed first, and each at the lowest free offset: the greedy-by-size rule of Pisarchyk and Lee,
Efficient Memory Management for Deep Neural Net Inference, 2020.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from fastcnn.compiler.state import FLOATS, Placement, State
from fastcnn.graph.ir import Shape
from fastcnn.kernels.storage import LINE_BYTES
from fastcnn.kernels.view import ARENA, ITEM_BYTES, NO_HALO, View, dense_view, four_dimensions, pixel_view


def place(state: State) -> State:
    """Decide where every value lies."""
    return replace(state, placement=_Placer(state).run())


class Waits:
    """Tells which steps must wait for all threads.

    A step waits if it touches memory that was written since the last wait, or writes memory that was read since then.
    """

    def __init__(self) -> None:
        self._written, self._read = _Stretches(), _Stretches()

    def before(self, written: Sequence[View], read: Sequence[View]) -> bool:
        """Whether the next step, which writes some views and reads others, must wait."""
        targets, sources = [*map(_stretch, written)], [*map(_stretch, read)]
        met, met_by_reads = self._written.meet, self._read.meet
        clash = any(map(met, targets)) or any(map(met_by_reads, targets)) or any(map(met, sources))
        if clash:
            self._written, self._read = _Stretches(), _Stretches()
        for target in targets:
            self._written.add(target)
        for source in sources:
            self._read.add(source)
        return clash


class _Stretches:
    """Stretches of memory in ascending order, so that a search is short; those that meet are merged."""

    def __init__(self) -> None:
        self._starts: dict[int, list[int]] = {}  # by slot
        self._ends: dict[int, list[int]] = {}

    def meet(self, stretch: tuple[int, int, int]) -> bool:
        """Whether one of them overlaps this one."""
        slot, start, end = stretch
        ends = self._ends.get(slot)
        if ends is None:
            return False
        first = bisect_right(ends, start)  # the first that ends behind the start
        return first < len(ends) and self._starts[slot][first] < end

    def add(self, stretch: tuple[int, int, int]) -> None:
        slot, start, end = stretch
        if slot not in self._starts:
            self._starts[slot], self._ends[slot] = [start], [end]
            return
        starts, ends = self._starts[slot], self._ends[slot]
        first, last = bisect_left(ends, start), bisect_right(starts, end)
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last], ends[first:last] = [start], [end]


def _stretch(view: View) -> tuple[int, int, int]:
    """Slot, first byte and end of the memory that a view lies in, halo included."""
    n, c, h, w, image, block, row, lanes, (top, left, bottom, right), slot, offset, element, _ = view
    last_row = offset + (n - 1) * image + (-(-c // lanes) - 1) * block + (h - 1 + bottom) * row
    # Operands that are broadcast have strides of 0. Rows of full vectors are wider than their pixels.
    item = ITEM_BYTES[element]
    return slot, (offset - top * row - left * lanes) * item, (last_row + max((w + right) * lanes, row)) * item


class _Occupied:
    """The values that are placed: where each lies, and from which step to which it lives.

    They are arrays in ascending order of their starts, because every further value is compared with all of them.
    """

    def __init__(self, most: int) -> None:
        self._table = np.empty((4, most), np.int64)  # start, end, born, dies
        self._tops = np.zeros(most + 1, np.int64)
        self._count = 0

    def place(self, size: int, born: int, dies: int) -> int:
        """Take the lowest offset at which a value of that size overlaps none that lives at the same time."""
        count, tops = self._count, self._tops
        start, end, first, last = self._table[:, :count]
        alive = ((first <= dies) & (last >= born)).nonzero()[0]
        most = len(alive)
        np.maximum.accumulate(end.take(alive), out=tops[1 : most + 1])  # behind all that starts before
        free = (start.take(alive) - tops[:most] >= size).nonzero()[0]
        offset = int(tops[free[0] if len(free) else most])
        at = int(start.searchsorted(offset, "right"))
        self._table[:, at + 1 : count + 1] = self._table[:, at:count]
        self._table[:, at] = offset, offset + size, born, dies
        self._count += 1
        return offset


class _Placer:
    def __init__(self, state: State) -> None:
        self.graph, self.shapes, self.layouts = state.graph, state.shapes, state.arranged
        self.pixels, self.vl, self.strides = state.options.pixels, state.options.vl, state.options.strides
        self.views: dict[str, View] = {}
        self.root: dict[str, str] = {}  # the value whose memory another one shares
        self.born: dict[str, int] = {}
        self.dies: dict[str, int] = {}
        self.sizes: dict[str, int] = {}

    def run(self) -> Placement:
        constants = self.direct_constants()
        outside = [*self.graph.inputs, *constants, *self.graph.outputs]
        for slot, name in enumerate(outside, 1):
            shape = self.shapes[name]
            if name in self.pixels:
                self.views[name] = pixel_view(shape, slot)
            else:
                packed = name in self.layouts.parameters
                self.views[name] = self.parameter_view(shape, slot) if packed else dense_view(shape, slot)
        for name, given in zip([*self.graph.inputs, *self.graph.outputs], self.strides, strict=False):
            if given is not None:
                image, channel, row = given
                self.views[name] = self.views[name]._replace(image=image, block=channel, row=row)
        self.measure_lives()
        for i, node in enumerate(self.graph.nodes):
            if node.output not in self.views:
                self.views[node.output] = self.shape_view(i)
        offsets, total = self.pack()
        views = {name: self.shifted(name, view, offsets) for name, view in self.views.items()}
        return Placement(views, constants, total)

    def direct_constants(self) -> list[str]:
        constants = self.graph.constants
        read = {
            name
            for node in (self.graph.nodes if constants else ())
            for i, name in enumerate(node.inputs)
            if name in constants and i not in node.kind.constants
        }
        return [name for name in constants if name in read]

    def measure_lives(self) -> None:
        for i, node in enumerate(self.graph.nodes):
            self.born[node.output] = i
            for name in node.inputs:
                self.dies[name] = i

    def shape_view(self, i: int) -> View:
        """The view of what node i writes; its offset counts from the start of the value's own memory."""
        node = self.graph.nodes[i]
        name, op = node.output, node.kind
        if op.is_alias:
            self.share(name, node.inputs[0])
            return self.alias_view(self.views[node.inputs[0]], self.shapes[name])
        if op.updates:
            changed = self.views[node.inputs[0]]
            if changed.slot == ARENA:
                self.share(name, node.inputs[0])
            return changed
        if node.op == "Column":
            self.share(name, node.inputs[0])
            pair = self.views[node.inputs[0]]
            return pair._replace(w=1, offset=pair.offset + node.attrs["index"] * pair.lanes)
        if name in self.layouts.joins:
            return self.joined_view(i, *self.layouts.joins[name])
        access = self.layouts.accesses[name]
        if name in self.layouts.parameters:
            view = self.parameter_view(self.shapes[name], ARENA)
        else:
            view = self.own_view(name, access.pads_rows)
        source = self.written_over(i, view, access.overwrites)
        if source:
            self.share(name, source)
        else:
            self.sizes[name] = view.n * view.image * view.item
        return view

    def own_view(self, name: str, pads_rows: bool) -> View:
        """A value in memory of its own."""
        n, c, h, w = four_dimensions(self.shapes[name])
        lanes, halo = self.layouts.lanes[name], self.layouts.halos.get(name, NO_HALO)
        top, left, bottom, right = halo
        row = (left + w + right) * lanes
        if pads_rows:  # full vectors are stored, so rows end at a multiple of VL
            row = -(-row // self.vl) * self.vl
        block = (top + h + bottom) * row
        image = -(-c // lanes) * block
        element, fill = self.layouts.elements.get(name, FLOATS)
        return View(n, c, h, w, image, block, row, lanes, halo, ARENA, top * row + left * lanes, element, fill)

    def parameter_view(self, shape: Shape, slot: int) -> View:
        """A parameter: blocks of its first axis."""
        block = prod(shape[1:]) * self.vl
        return View(1, shape[0], 1, prod(shape[1:]), -(-shape[0] // self.vl) * block, block, block, self.vl, slot=slot)

    def joined_view(self, i: int, target: str, start: int) -> View:
        """A value inside a concatenation, which is alive from its first part on."""
        name = self.graph.nodes[i].output
        if target not in self.views:
            self.views[target] = self.own_view(target, pads_rows=False)
            self.sizes[target] = self.views[target].n * self.views[target].image * self.views[target].item
            self.born[target] = i
        self.share(name, target)
        whole = self.views[target]
        return whole._replace(c=self.shapes[name][1], offset=whole.offset + start // whole.lanes * whole.block)

    def alias_view(self, source: View, shape: Shape) -> View:
        """Another shape in the memory of its source; the gaps between images stay if their number does."""
        view = dense_view(shape, source.slot, source.element)
        return view._replace(image=source.image if view.n == source.n else view.image, offset=source.offset)

    def written_over(self, i: int, view: View, places: tuple[int, ...]) -> str:
        """The input that the output of node i is written over, or "".

        It is one of the inputs at `places`, lies like the output, and is read for the last time.
        """
        if not places:
            return ""
        node = self.graph.nodes[i]
        owners = [self.root.get(name, name) for name in node.inputs]
        kept = {owner for place, owner in enumerate(owners) if place not in places}
        for place in places:
            name, owner = node.inputs[place], owners[place]
            if owner in self.sizes and owner not in kept and self.dies[owner] == i and self.views[name] == view:
                return name
        return ""

    def share(self, name: str, source: str) -> None:
        """Let value `name` lie in the memory of `source`, which then lives as long."""
        owner = self.root.get(source, source)
        self.root[name] = owner
        self.dies[owner] = max(self.dies.get(owner, 0), self.dies.get(name, self.born[name]))

    def pack(self) -> tuple[dict[str, int], int]:
        occupied, offsets, total = _Occupied(len(self.sizes)), {}, 0
        for name in sorted(self.sizes, key=lambda name: (-self.sizes[name], self.born[name])):
            size = -(-self.sizes[name] // LINE_BYTES) * LINE_BYTES
            offsets[name] = occupied.place(size, self.born[name], self.dies.get(name, self.born[name]))
            total = max(total, offsets[name] + size)
        return offsets, total

    def shifted(self, name: str, view: View, offsets: dict[str, int]) -> View:
        if view.slot != ARENA:
            return view
        start = offsets[self.root.get(name, name)] // ITEM_BYTES[view.element]
        return View(*view[:10], view.offset + start, view.element, view.fill)

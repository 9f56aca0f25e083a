"""Layout: how every value is stored between steps, and reorders where the layouts of writer and reader differ.

A value is plain (NCHW) or blocked ([N][C/VL][H][W][VL]). Graph inputs and outputs are plain. Each operation tells the
layout that it reads (`Op.access`), or that it follows its operands. A convolution can read a plain value of fewer
channels than a vector holds. It takes the channels as one block of C lanes (NHWC), or as they are if it needs no
padding. Then the convolution before it leaves its output plain, if it can. A value that is flattened for matrix
products alone stays blocked: their weights are packed in the order of the blocks.

Most values are float32. Quantised ones are bytes (see ops/quantised.py): what moves a value keeps its type.

Graph inputs may also come as the pixels of photos. A table tells the number that each value of a channel stands for,
and a Lookup node makes each copy that steps read. Layouts are those for a plain input, and so are the bits.

Weights that training changes are parameters: blocks of output channels, [O/VL][...][VL]. Gradients are computed and
optimizers work in that order. Lowering packs the weights that are constants; this pass leaves them alone.

A halo is the border that stands for padding: zeros, or the byte that stands for zero. A value gets the largest halo
that its readers need. Plain values have none, except copies made for a convolution.
"""

from __future__ import annotations

from dataclasses import replace

from fastcnn.compiler.state import FLOATS, Layouts, State
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels.view import NO_HALO, Halo
from fastcnn.ops.access import Access


def levels_of(name: str) -> str:
    """The name of the constant that tells what each value of an input's pixels stands for, (C, 256)."""
    return f"{name}:levels"


def arrange(state: State) -> State:
    """Decide the layout of every value, and insert Reorder nodes between different layouts.

    The algorithms of convolutions are chosen before. The tables for pixels are added as constants (`levels_of`).
    """
    return _Arranger(state).run()


def _union(a: Halo, b: Halo) -> Halo:
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


class _Arranger:
    def __init__(self, state: State) -> None:
        levels = {levels_of(name): array for name, array in state.options.pixels.items()}
        self.state, self.users = state, state.users
        self.graph = graph = replace(state.graph, constants={**state.graph.constants, **levels})
        self.vl, self.pixels, self.parameters = state.options.vl, state.options.pixels, set(state.options.parameters)
        self.shapes = {**state.shapes, **{name: array.shape for name, array in levels.items()}}
        self.external = {*graph.inputs, *graph.constants}
        self.concatenations = {node.output for node in graph.nodes if node.op == "Concat"}
        self.lanes = dict.fromkeys(self.external, 1)
        self.halos: dict[str, Halo] = {}
        self.blocks: dict[str, tuple[int, ...]] = {}  # the image shape of flattened values that are still blocked
        self.nodes: list[Node] = []
        self.makers: dict[str, Node] = {}
        self.roots: dict[str, str] = {}  # the value whose memory an alias is
        self.first = {name: i for i, name in reversed([*enumerate(graph.outputs)])}
        self.copies: dict[tuple[str, int, bool], str] = {}
        self.accesses: dict[str, Access] = {}  # by output
        self.elements: dict[str, tuple[str, int]] = {}  # type and padding of values that are not float32

    def run(self) -> State:
        for node in self.graph.nodes:
            self.place(node)
        outputs = [self.plain_output(name, i) for i, name in enumerate(self.graph.outputs)]
        graph = Graph(self.nodes, self.graph.inputs, outputs, self.graph.constants, self.graph.types)
        joins = self.join()
        accesses = {node.output: self.access(node) for node in self.nodes}
        layouts = Layouts(self.lanes, self.halos, joins, frozenset(self.parameters), accesses, self.elements)
        return replace(self.state, graph=graph, shapes=self.shapes, layouts=layouts)

    def append(self, node: Node) -> None:
        self.nodes.append(node)
        self.makers[node.output] = node
        access = None if node.kind.moves else self.access(node)
        element = self.elements.get(node.inputs[0], FLOATS) if access is None else (access.element, access.fill)
        if element != FLOATS:
            self.elements[node.output] = element
        if node.kind.is_alias:
            self.roots[node.output] = self.roots.get(node.inputs[0], node.inputs[0])

    def join(self) -> dict[str, tuple[str, int]]:
        """The values that can be computed inside a concatenation of channels; all its parts share one halo."""
        producers = self.makers
        joins: dict[str, tuple[str, int]] = {}
        targets: set[str] = set()
        for node in self.nodes:
            parts = node.inputs
            if node.op != "Concat" or self.lanes[node.output] == 1 or node.attrs["axis"] % 4 != 1:
                continue
            fixed = {
                name
                for name in parts
                if name in joins or name in targets or name not in producers or producers[name].kind.is_alias
            }
            if fixed or len(set(parts)) < len(parts):
                continue
            halo = self.halos.get(node.output, NO_HALO)
            start = 0
            for name in parts:
                joins[name] = (node.output, start)
                start += self.shapes[name][1]
                halo = _union(halo, self.halos.get(name, NO_HALO))
            if any(halo):
                self.halos |= dict.fromkeys((node.output, *parts), halo)
            targets.add(node.output)
        return joins

    def place(self, node: Node) -> None:
        """Bring the operands of a node into the layout that it reads."""
        op = node.kind
        operands = op.operands(node)
        places = [i for i, name in enumerate(node.inputs) if name and i not in op.constants]
        lanes = self.wanted(node, operands)
        halo = self.access(node).halo
        inputs = list(node.inputs)  # by index, because x + conv(x) may read x in two layouts
        for i in op.constants:
            if i < len(inputs) and inputs[i] and inputs[i] not in self.graph.constants:
                # Weights are stored as parameters, except those of an optimizer's step on a plain value.
                inputs[i] = self.stored(inputs[i], not (op.updates and node.inputs[0] not in self.parameters))
        for i in places if op.layout != "parameter" else ():
            inputs[i] = self.stored(inputs[i], False)
            name = self.fetch(inputs[i], self.lanes_for(node, i, lanes), halo if i == 0 else NO_HALO)
            inputs[i] = self.gapless(name, node.output) if op.is_alias else name
        if tuple(inputs) != node.inputs:
            node = node.reading(inputs)
        if inputs and inputs[0] in self.blocks:
            node = node.deciding(blocks=self.blocks[inputs[0]])
        self.append(node)
        self.lanes[node.output] = lanes if len(self.shapes[node.output]) == 4 and not op.packs else 1
        if op.packs or (op.updates and node.inputs[0] in self.parameters):
            self.parameters.add(node.output)

    def access(self, node: Node) -> Access:
        """How the node reads and writes; copies of operands have the same shapes, and change nothing."""
        access = self.accesses.get(node.output)
        if access is None:
            self.accesses[node.output] = access = node.kind.access(node, self.shapes, self.vl)
        return access

    def stored(self, name: str, as_parameter: bool) -> str:
        """The name under which a value is stored as a parameter, or not as one."""
        if (name in self.parameters) == as_parameter:
            return name
        copy = f"{name}:{'packed' if as_parameter else 'plain'}"
        if copy not in self.shapes:
            name = self.fetch(name, 1, NO_HALO) if name in self.pixels else name
            self.append(Node("Pack" if as_parameter else "Unpack", copy, (name,), copy, {}))
            self.shapes[copy], self.lanes[copy] = self.shapes[name], 1
            if as_parameter:
                self.parameters.add(copy)
        return copy

    def wanted(self, node: Node, operands: list[str]) -> int:
        """The lanes that the node writes, and reads except where `lanes_for` differs."""
        layout = self.access(node).layout
        blocked = layout == "blocked" or (layout == "follow" and any(self.lanes[name] > 1 for name in operands))
        return self.narrow_for_readers(node) or self.vl if blocked and not self.stays_plain(node) else 1

    def narrow_for_readers(self, node: Node) -> int:
        """The lanes of the narrow block that all readers read, if the node can write it; else 0."""
        readers = self.users[node.output]
        if not self.access(node).writes_narrow or node.output in self.first or not readers:
            return 0
        wanted = {self.access(reader).narrow if reader.inputs[0] == node.output else 0 for reader in readers}
        return wanted.pop() if len(wanted) == 1 else 0

    def stays_plain(self, node: Node) -> bool:
        """Whether a convolution leaves its output plain, because all readers read its few channels as they are."""
        if node.output in self.first or not self.access(node).writes_plain:
            return False
        return all(self.reads_plain(reader, node.output) for reader in self.users[node.output])

    def reads_plain(self, node: Node, name: str) -> bool:
        """Whether a convolution reads the few channels of a plain value as they are."""
        only_there = name == node.inputs[0] and name not in node.inputs[1:] and name not in self.pixels
        return only_there and self.access(node).reads_plain

    def lanes_for(self, node: Node, place: int, lanes: int) -> int:
        """The lanes of an operand: a dense convolution takes few plain channels as one narrow block, or as they are."""
        name = node.inputs[place]
        if place in self.access(node).plain:
            return 1
        if self.access(node).reads_any:
            return self.lanes[name]
        few = self.shapes[name][1] if len(self.shapes[name]) == 4 else self.vl
        if place == 0 and self.lanes[name] == self.access(node).narrow > 0:
            return self.lanes[name]
        if place == 0 and self.access(node).reads_narrow and few < self.vl and self.lanes[name] == 1:
            return 1 if self.reads_plain(node, name) else self.access(node).narrow or few
        if node.op == "Flatten":
            return self.lanes[name] if self.keeps_blocks(node, name) else 1
        return lanes

    def keeps_blocks(self, node: Node, name: str) -> bool:
        """Whether the memory of a value can serve as the rows that Flatten makes.

        Images of 1 x 1 are rows already. The blocks of other images are rows in another order, which suits matrix
        products alone: their weights are packed in that order.
        """
        shape, readers = self.shapes[name], self.users[node.output]
        may_get_halo = len(self.users[name]) > 1 or name in self.concatenations
        if len(shape) != 4 or node.attrs["axis"] != 1 or may_get_halo:
            return False
        if shape[2:] == (1, 1):
            return True
        alone = all(
            reader.op == "Gemm" and reader.inputs[0] == node.output and reader.inputs[1] in self.graph.constants
            for reader in readers
        )
        whole = self.lanes[name] == self.vl and shape[1] % self.vl == 0 and node.output not in self.first
        if alone and whole:
            self.blocks[node.output] = shape[1:]
        return alone and whole

    def fetch(self, name: str, lanes: int, halo: Halo) -> str:
        """The name under which a value is stored in these lanes and with this halo."""
        padded = any(halo)
        outside = name in self.external or lanes == 1  # cannot carry a halo of its own
        if self.lanes[name] != lanes or (padded and outside) or name in self.pixels:
            key = (name, lanes, padded and lanes == 1)
            if key not in self.copies:
                self.copies[key] = self.reorder(name, f"{name}:{lanes}{'p' * key[2]}", lanes)
            name = self.copies[key]
        if padded:
            self.halos[name] = _union(self.halos.get(name, NO_HALO), halo)
        return name

    def gapless(self, name: str, alias: str) -> str:
        """The value without padding between its rows, unless the alias has the same rows."""
        root = self.roots.get(name, name)
        cut = self.lanes[root] > 1 and self.shapes[root][1] % self.lanes[root] > 0  # the last block is not full
        padded = cut or (root in self.makers and self.access(self.makers[root]).pads_rows)
        shape = self.shapes[alias]
        if not padded or (len(shape) == 2 and shape[0] == self.shapes[name][0]):
            return name
        copy = f"{name}:gapless"
        return copy if copy in self.shapes else self.reorder(name, copy, 1)

    def reorder(self, name: str, copy: str, lanes: int) -> str:
        between = lanes if 1 in (lanes, self.lanes[name]) else 1
        if between != lanes:  # blocks of another size are made from a plain copy
            name = self.fetch(name, between, NO_HALO)
        if name in self.pixels:
            self.append(Node("Lookup", copy, (name, levels_of(name)), copy, {}))
        else:
            self.append(Node("Reorder", copy, (name,), copy, {}))
        self.shapes[copy], self.lanes[copy] = self.shapes[name], lanes
        return copy

    def plain_output(self, name: str, index: int) -> str:
        """The name of an output, which lies in the caller's memory: plain, without gaps, apart from other outputs."""
        name = self.stored(name, False)
        producer = self.makers.get(name)
        direct = producer is not None and not producer.kind.is_alias and not self.access(producer).pads_rows
        if direct and self.lanes[name] == 1 and self.first.get(name, index) == index and name not in self.halos:
            return name
        return self.reorder(name, f"{name}:output{index}", 1)

"""The end of a training step's graph: what parameters and their means do with the gradients.

Most optimizers are one formula of `Update`. Lion and LAMB first make a direction of a gradient, in an array of its own:

    Lion: sign((1 - b1) g + b1 m)          LAMB: m' / (sqrt(v') + eps) + weight_decay * p, times |p| / |direction|

Their parts are steps of `Update` too, on arrays that begin with zeros. The numbers of each part are a row.

Gradients may first go into their mean over several batches, and parameters into a running average of their own. Both
means are steps of SGD with the sign turned, mean -= share * (value - mean).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from fastcnn.graph.ir import Node
from fastcnn.kernels._update import SETTINGS
from fastcnn.ops.update import MEANS
from fastcnn.training.optimizers import Optimizer

__all__ = ["AVERAGED", "GATHERED", "Updating", "row_of_numbers", "update_nodes"]

NUMBERS = "@settings"
GATHERING, AVERAGING = "@gathering", "@averaging"  # numbers of both means
GATHERED, AVERAGED = "gradient", "average"  # how the means themselves are called, after the parameter's name and @


@dataclass(frozen=True)
class Updating:
    """What a step does with the gradients.

    Attributes
    ----------
    optimizer : Optimizer
    clip_norm : float or None
        The largest norm of all gradients, taken as one vector.
    gathers : bool
        Whether the gradients go into the mean over several batches, which takes their place.
    applies : bool
        Whether parameters follow them.
    averages : bool
        Whether the parameters' running average follows the parameters.
    """

    optimizer: Optimizer
    clip_norm: float | None = None
    gathers: bool = False
    applies: bool = True
    averages: bool = False

    def means(self) -> list[str]:
        """What is kept of each parameter."""
        gathered, averaged = [GATHERED] * self.gathers, [AVERAGED] * (self.applies and self.averages)
        return [*(self.optimizer.states() if self.applies else ()), *gathered, *averaged]

    def numbers(self, trained: list[str]) -> list[str]:
        """Names of the rows of numbers that the step reads."""
        groups = sorted({self.optimizer.group_of(name) for name in trained}) if self.applies else []
        parts = self.optimizer.parts(1, 0) if self.applies else {}
        return [
            *map(numbers_of_group, groups),
            *(row_of_part(part, group) for group in groups for part in parts),
            *[GATHERING] * self.gathers,
            *[AVERAGING] * (self.applies and self.averages),
        ]


def numbers_of_group(group: int) -> str:
    """The name of a group's row of numbers."""
    return f"{NUMBERS}{group}"


def row_of_part(part: str, group: int) -> str:
    """The name of the row of numbers of one part of an optimizer's formula."""
    return f"{NUMBERS}{group}:{part}"


def row_of_numbers(
    name: str, optimizer: Optimizer, rate: float, update: int, share: float, average: float
) -> list[float]:
    """The numbers of one row, in the order of `SETTINGS`.

    Parameters
    ----------
    name : str
        Of the row, one of `Updating.numbers`.
    optimizer : Optimizer
    rate : float
        The learning rate of parameters in no group; those of groups change in proportion.
    update : int
        The number of the update, from 1 on.
    share : float
        Of the batch in the mean of the gradients.
    average : float
        What the running average keeps of itself, at most.
    """
    numbers: Mapping[str, float]
    group, _, part = name.removeprefix(NUMBERS).partition(":")
    if name == GATHERING:
        numbers = {"rate": -share, "decay": -1.0}
    elif name == AVERAGING:
        kept = min(average, (1 + update) / (10 + update)) if update > 1 else 0.0
        numbers = {"rate": kept - 1, "decay": -1.0}
    elif part:
        numbers = optimizer.parts(update, int(group))[part]
    else:
        own, decay = optimizer.rate_and_decay(int(group))
        base = optimizer.learning_rate
        if own != base:
            rate = own * (rate / base if base else 1.0)
        is_done = "decay" in optimizer.parts(update, int(group))  # by a part of its own
        numbers = {**optimizer.numbers(update), "rate": rate, "decay": 0.0 if is_done else decay}
    return [numbers.get(setting, 0.0) for setting in SETTINGS]


def update_nodes(
    trained: list[str], grads: Mapping[str, str], updating: Updating, packed: Collection[str], scale: str = ""
) -> list[Node]:
    """The nodes that change parameters and their means, those that change nothing first.

    Parameters
    ----------
    trained : list of str
        Names of the parameters.
    grads : dict of str to str
        Names of their gradients.
    updating : Updating
    packed : collection of str
        Parameters that are stored as parameters; the others are plain.
    scale : str
        A factor on all gradients, where one is computed elsewhere.
    """
    nodes: list[Node] = []
    if updating.gathers:
        nodes += [_mean(name, GATHERED, grads[name], GATHERING) for name in trained]
        grads = {name: f"{name}@{GATHERED}" for name in trained}
    if not updating.applies:
        return nodes
    optimizer = updating.optimizer
    if updating.clip_norm is not None:
        for name in trained:
            norm = f"{name}:norm"
            nodes.append(Node("SquaredNorm", norm, (grads[name], scale), norm, {}))
            scale = norm
        nodes.append(Node("ClipScale", "@scale", (scale,), "@scale", {"limit": updating.clip_norm}))
        scale = "@scale"
    for name in trained:
        nodes += _Formula(optimizer, name, grads[name], scale, name in packed).nodes()
    return nodes + [_mean(name, AVERAGED, name, AVERAGING) for name in trained if updating.averages]


def _mean(name: str, mean: str, value: str, numbers: str) -> Node:
    """Let a mean follow a value: with a decay of -1 and the negative rate -share, SGD's step does so."""
    output = f"{name}@{mean}:update"
    attrs = {"kind": "SGD", "nesterov": 0}
    return Node("Update", output, (f"{name}@{mean}", value, numbers, "", "", "", ""), output, attrs)


@dataclass
class _Formula:
    """One optimizer's step on one parameter."""

    optimizer: Optimizer
    name: str
    grad: str
    scale: str
    is_packed: bool
    made: list[Node] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        means = [f"{self.name}@{mean}" if mean in self.optimizer.states() else "" for mean in MEANS]
        if self.optimizer.kind == "Lion":
            direction = self.direction_of_lion(means[0])
            self.update(self.name, direction, "")
            self.update(means[0], self.grad, "mean", scale=self.scale)
        elif self.optimizer.kind == "LAMB":
            direction, ratio = self.direction_of_lamb(means)
            self.update(self.name, direction, "", scale=ratio)
        else:
            self.update(self.name, self.grad, "", self.optimizer.kind, self.scale, means)
        return self.made

    def direction_of_lion(self, mean: str) -> str:
        direction = self.filled(self.name, 0.0, self.is_packed)
        direction = self.update(direction, self.grad, "gradient", scale=self.scale)
        direction = self.update(direction, mean, "momentum")
        return self.add("Bounded", direction, low=-1.0, high=1.0)

    def direction_of_lamb(self, means: list[str]) -> tuple[str, str]:
        """Return the direction and, where it is adapted to the parameter's norm, the factor."""
        direction = self.filled(self.name, 0.0, self.is_packed)
        direction = self.update(direction, self.grad, "direction", "Adam", self.scale, means)
        if not self.optimizer.rate_and_decay(self.optimizer.group_of(self.name))[1]:
            return direction, ""
        direction = self.update(direction, self.name, "decay")
        whole, length = (self.add("SquaredNorm", array, "") for array in (self.name, direction))
        norm = self.update(self.filled(whole, 0.0), whole, "quotient", "Adam", means=[whole, whole, ""])
        ratio = self.update(self.filled(whole, 0.0), norm, "quotient", "Adam", means=[norm, length, ""])
        # A parameter of zeros moves, too: its factor is 1.
        is_zero = self.add("Bounded", self.update(self.filled(whole, 1.0), whole, "less"), low=0.0, high=1.0)
        return direction, self.update(ratio, is_zero, "plus")

    def add(self, op: str, *inputs: str, **attrs: float) -> str:
        output = f"{self.name}:{op.lower()}{len(self.made)}"
        self.made.append(Node(op, output, inputs, output, attrs))
        return output

    def filled(self, like: str, value: float, is_packed: bool = False) -> str:
        return self.add("FilledParameter" if is_packed else "Filled", like, value=value)

    def update(
        self,
        changed: str,
        value: str,
        part: str,
        kind: str = "SGD",
        scale: str = "",
        means: Collection[str] = ("",) * 3,
    ) -> str:
        """Let an array follow a value by one of the formulas; `part` names its numbers, by default the group's."""
        group = self.optimizer.group_of(self.name)
        row = row_of_part(part, group) if part else numbers_of_group(group)
        output = f"{self.name}:update{len(self.made)}"
        attrs = {"kind": kind, "nesterov": int(self.optimizer.nesterov)}
        self.made.append(Node("Update", output, (changed, value, row, scale, *means), output, attrs))
        return output

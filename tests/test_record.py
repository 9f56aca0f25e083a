"""Frozen dataclasses with shared methods behave as those of the standard library."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import FrozenInstanceError, asdict, dataclass, field, replace

import pytest

from fastcnn._record import record


@record
class Ours:
    first: int
    second: str = "b"
    third: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Theirs:
    first: int
    second: str = "b"
    third: list[int] = field(default_factory=list)


@record
class Pair:
    left: int
    right: int = 0


ARGUMENTS = [((1,), {}), ((1, "c"), {}), ((1, "c", [2]), {}), ((), {"first": 1, "third": [3]}), ((1,), {"second": "d"})]


@pytest.mark.parametrize(("values", "named"), ARGUMENTS)
def test_values_are_taken_as_by_a_dataclass(values, named):
    ours, theirs = Ours(*values, **named), Theirs(*values, **named)
    assert asdict(ours) == asdict(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert asdict(replace(ours, first=7)) == asdict(replace(theirs, first=7))
    assert deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == ours


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((1, "b", [], 4), {}), ((1,), {"fourth": 1}), ((1,), {"first": 1}), ((), {"second": "b", "fourth": 1})],
)
def test_what_a_dataclass_refuses_is_refused(values, named):
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*values, **named)


def test_defaults_that_are_made_are_not_shared():
    assert Ours(1).third is not Ours(1).third


def test_frozen_equal_and_hashable():
    pair = Pair(1, 2)
    for change in (lambda: setattr(pair, "left", 3), lambda: delattr(pair, "left")):
        with pytest.raises(FrozenInstanceError, match="left"):
            change()
    assert pair == Pair(1, 2) != Pair(1, 3)
    assert pair != (1, 2)
    assert len({Pair(1, 2), Pair(1, 2), Pair(2, 1)}) == 2
    with pytest.raises(TypeError):
        hash(Ours(1))  # it holds a list

from collections.abc import Mapping, Sequence
from typing import Any

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Broadcast(Step):
    def __init__(
        self,
        op: str,
        z: View,
        x: View,
        y: View | float,
        sizes: Sequence[int],
        steps: Sequence[Sequence[int]],
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

class Reduce(Step):
    def __init__(
        self,
        y: View,
        x: View,
        kind: str,
        kept: tuple[Sequence[int], Sequence[int]],
        reduced: tuple[Sequence[int], Sequence[int]],
        columns: int,
        divisor: float,
    ) -> None: ...

from collections.abc import Mapping
from typing import Any

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class BatchStats(Step):
    def __init__(self, y: View, x: View) -> None: ...

class Normalize(Step):
    def __init__(
        self,
        y: View,
        x: View,
        stats: View,
        gamma: View,
        beta: View,
        residual: View | None,
        epsilon: float,
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

class NormSums(Step):
    def __init__(
        self,
        y: View,
        g: View,
        x: View,
        stats: View,
        gamma: View | None,
        beta: View | None,
        epsilon: float,
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

class NormGrad(Step):
    def __init__(
        self,
        y: View,
        g: View,
        x: View,
        stats: View,
        gamma: View,
        sums: View,
        beta: View | None,
        epsilon: float,
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

class RunningUpdate(Step):
    def __init__(self, y: View, stats: View, column: int, momentum: float, factor: float) -> None: ...

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Activate(Step):
    def __init__(self, z: View, x: View, activation: tuple[str, Mapping[str, Any]]) -> None: ...

class Affine(Step):
    def __init__(
        self,
        z: View,
        x: View,
        scale: np.ndarray,
        shift: np.ndarray,
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

class AffineRows(Step):
    def __init__(
        self,
        z: View,
        x: View,
        scale: np.ndarray,
        shift: np.ndarray,
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

class Binary(Step):
    def __init__(
        self, op: str, z: View, x: View, y: View, activation: tuple[str, Mapping[str, Any]] | None
    ) -> None: ...

class Softmax(Step):
    def __init__(self, y: View, x: View) -> None: ...

class Fill(Step):
    def __init__(self, z: View, value: float) -> None: ...

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

def available() -> bool: ...
def pack_bf16_weights(weight: np.ndarray, vl: int, scale: np.ndarray | None = None) -> np.ndarray: ...
def round_to_bf16(numbers: np.ndarray) -> np.ndarray: ...

class Bf16Conv(Step):
    def __init__(
        self,
        y: View,
        x: View,
        residual: View | None,
        weights: np.ndarray,
        bias: np.ndarray,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        activation: tuple[str, dict[str, Any]] | None,
    ) -> None: ...

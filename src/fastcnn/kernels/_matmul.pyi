from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class MatMul(Step):
    def __init__(
        self,
        y: View,
        a: View,
        b: View,
        sizes: tuple[int, int, int],
        pitches: tuple[int, int, int],
        offsets: np.ndarray,
        turned: tuple[bool, bool],
        scale: float,
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Gemm(Step):
    def __init__(
        self,
        y: View,
        x: View,
        weights: np.ndarray | View,
        bias: np.ndarray | View,
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

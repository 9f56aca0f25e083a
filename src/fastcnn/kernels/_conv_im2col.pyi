from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Im2colConv(Step):
    def __init__(
        self,
        y: View,
        x: View,
        residual: View | None,
        weights: np.ndarray | View,
        bias: np.ndarray | View,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        groups: int,
        activation: tuple[str, Mapping[str, Any]] | None,
    ) -> None: ...

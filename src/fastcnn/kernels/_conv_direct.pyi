from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

def writes_once(ins: int, outs: int, kernel: Sequence[int], vl: int) -> bool: ...
def writes_planes(ins: int, outs: int, kernel: Sequence[int], strides: Sequence[int], width: int, vl: int) -> bool: ...
def reads_planes(ins: int, outs: int, kernel: Sequence[int], strides: Sequence[int], width: int, vl: int) -> bool: ...
def pools(outs: int, strides: Sequence[int], width: int, vl: int) -> bool: ...

class DirectConv(Step):
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
        places: np.ndarray | None = None,
        pool: int = 1,
        half: bool = False,
        bundle: int = 2,
    ) -> None: ...

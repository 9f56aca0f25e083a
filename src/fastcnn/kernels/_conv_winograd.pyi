from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

def line_products(m: int, stride: int = 1) -> list[tuple[int, int, int]]: ...
def line_sizes(m: int, stride: int = 1) -> tuple[int, int, int]: ...
def filter_numbers(m: int, stride: int = 1, lean: bool = False) -> int: ...
def patch_counts(size: int, m: int, whole: bool = False) -> tuple[int, int]: ...

class WinogradConv(Step):
    def __init__(
        self,
        y: View,
        x: View,
        residual: View | None,
        weights: np.ndarray | View,
        bias: np.ndarray | View,
        m: int,
        stride: int,
        pads: Sequence[int],
        pool: int,
        activation: tuple[str, Mapping[str, Any]] | None,
        lean: bool = False,
    ) -> None: ...

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.kernels._executor import Step
from fastcnn.kernels.view import View

def pack_weights(
    weight: np.ndarray, groups: int, lanes: int, vl: int, chunk: int = -1, scale: np.ndarray | None = None,
    half: bool = False,
) -> np.ndarray: ...
def leaves_half(ins: int, outs: int, groups: int, lanes: int, vl: int) -> bool: ...
def chunk_blocks(lanes: int, kernel: Sequence[int], vl: int) -> int: ...
def writes_once(ins: int, outs: int, kernel: Sequence[int], vl: int) -> bool: ...
def block_lanes(lanes: int, channels: int) -> int: ...
def writes_planes(
    ins: int, outs: int, kernel: Sequence[int], strides: Sequence[int], width: int, vl: int
) -> bool: ...
def pools(outs: int, strides: Sequence[int], width: int, vl: int) -> bool: ...
def pack_bias(bias: np.ndarray | None, channels: int, groups: int, vl: int) -> np.ndarray: ...

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
    ) -> None: ...

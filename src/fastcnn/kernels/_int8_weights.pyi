from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_PRODUCTS: int

@dataclass(frozen=True)
class Reach:
    width: int
    blocks: int
    first: list[int]
    inputs: int
    quads: int

def reach(channels: int, outs: int, groups: int, lanes: int, vl: int) -> Reach: ...
def pack_int8_weights(weight: np.ndarray, groups: int = 1, lanes: int | None = None) -> np.ndarray: ...
def narrow_lanes(channels: int, kernel: Sequence[int], dilations: Sequence[int]) -> int: ...
def row_quads(row: int) -> list[int]: ...
def pack_int8_depthwise(
    weight: np.ndarray, strides: Sequence[int] = (1, 1), dilations: Sequence[int] = (1, 1)
) -> np.ndarray: ...
def depthwise_outputs(kw: int, strides: Sequence[int], dilations: Sequence[int]) -> int: ...
def packed_path() -> str: ...

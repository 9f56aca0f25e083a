from collections.abc import Callable

import numpy as np

from fastcnn.kernels._step import Step

class Executor:
    max_threads: int
    def __init__(
        self,
        steps: list[Step],
        waits: list[bool],
        arena: np.ndarray,
        scratch: np.ndarray,
        max_threads: int,
        first_update: int = ...,
    ) -> None: ...
    def run(self, arrays: list[np.ndarray], nthreads: int) -> None: ...
    def run_in_pieces(
        self, arrays: list[np.ndarray], nthreads: int, ends: list[int], reached: Callable[[int], object]
    ) -> None: ...
    def times(self, arrays: list[np.ndarray], nthreads: int) -> list[float]: ...

def run_chunks(executors: list[Executor], arrays: list[np.ndarray], strides: np.ndarray, count: int) -> None: ...

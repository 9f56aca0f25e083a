import numpy as np

from fastcnn.kernels._step import Step

class Executor:
    max_threads: int
    def __init__(
        self, steps: list[Step], waits: list[bool], arena: np.ndarray, scratch: np.ndarray, max_threads: int,
        first_update: int = ...,
    ) -> None: ...
    def run(self, arrays: list[np.ndarray], nthreads: int) -> None: ...
    def times(self, arrays: list[np.ndarray], nthreads: int) -> list[float]: ...

class Repeat:
    def __init__(
        self, idle: list[Executor], shape: tuple[int, ...], constants: list[np.ndarray], result_shape: tuple[int, ...],
        most_threads: int,
    ) -> None: ...
    def run(self, x: object) -> np.ndarray | None: ...

def run_chunks(executors: list[Executor], arrays: list[np.ndarray], strides: np.ndarray, count: int) -> None: ...

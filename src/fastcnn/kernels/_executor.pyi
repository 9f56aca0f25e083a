import numpy as np

class Step:
    @property
    def scratch(self) -> int: ...

class Executor:
    max_threads: int
    def __init__(self, steps: list[Step], arena: np.ndarray, scratch: np.ndarray, max_threads: int) -> None: ...
    def run(self, arrays: list[np.ndarray], nthreads: int) -> None: ...

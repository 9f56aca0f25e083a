from collections.abc import Callable

import numpy as np

from fastcnn.kernels._executor import Executor

class Call:
    def __init__(
        self,
        executor: Executor,
        inputs: list[int],
        constants: list[np.ndarray],
        outputs: list[int],
        parts: int,
        again: Callable[[], Call],
    ) -> None: ...
    def clone(self) -> Call: ...

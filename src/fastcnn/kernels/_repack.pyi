from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class PackDirect(Step):
    def __init__(
        self, y: View, x: View, groups: int, ins: int, area: int, lanes: int, chunk: int, bundle: int
    ) -> None: ...

class Transpose(Step):
    def __init__(self, y: View, x: View, groups: int, ins: int, area: int) -> None: ...

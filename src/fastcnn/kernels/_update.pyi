from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

SETTINGS: tuple[str, ...]

class Update(Step):
    def __init__(
        self,
        p: View,
        m: View | None,
        v: View | None,
        c: View | None,
        g: View,
        settings: View,
        scale: View | None,
        kind: str,
        nesterov: bool,
    ) -> None: ...

class SquaredNorm(Step):
    def __init__(self, y: View, g: View, previous: View | None) -> None: ...

class ClipScale(Step):
    def __init__(self, y: View, g: View, limit: float) -> None: ...

from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View

class Reorder(Step):
    def __init__(self, y: View, x: View) -> None: ...

class Lookup(Step):
    def __init__(self, y: View, x: View, table: View) -> None: ...

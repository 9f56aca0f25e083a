PIECE_VECTORS: int

class Step:
    @property
    def scratch(self) -> int: ...

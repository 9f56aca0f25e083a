PIECE_VECTORS: int
LONGEST_PIECE: int

class Step:
    @property
    def scratch(self) -> int: ...
    @property
    def on_caller(self) -> bool: ...
    @property
    def longest(self) -> int: ...

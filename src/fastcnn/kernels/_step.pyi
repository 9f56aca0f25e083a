PIECE_VECTORS: int
LONGEST_PIECE: int

class Step:
    @property
    def scratch(self) -> int: ...
    @property
    def longest(self) -> int: ...

"""The accountant of what a file may cost: bytes of memory and elementary operations, asked before either is spent.

Loaders, folding, the evaluation of general operations and compiling ask one `Budget`. What an operation costs is told
by the operation itself, in ops/general and compiler/cost.py; what a file's text and messages become, by who reads them.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CALL", "KERNEL", "MAX_BYTES", "NODE_BYTES", "Budget", "Cost", "json_cost"]

# What files and predictions may take unless somebody says otherwise.
MAX_BYTES = 4 << 30
# Elementary operations for each byte of `max_bytes`: before the first prediction, and in the steps of each.
LOADING_WORK, STEP_WORK = 8, 256
# However little memory is allowed, this much work is.
LEAST_WORK = 1 << 28
# Elementary operations that take as long as a call of NumPy; and operations of a kernel, or of a product of matrices,
# that take as long as one of NumPy's on an array.
CALL, KERNEL = 2000, 16
# What a node takes in Python's objects, from the file to the plan.
NODE_BYTES = 4096
# However little memory is allowed, so many bytes of Python's objects are, while a file is read.
LEAST_OBJECT_BYTES = 2 << 20
# What a byte of JSON becomes at most: a list or a dictionary takes three; and operations to read it.
_JSON_BYTES, _JSON_WORK = 32, 16


class Cost(NamedTuple):
    """Upper bounds for a computation.

    Attributes
    ----------
    bytes : int
        That it allocates at its peak, its results included and its inputs not.
    work : int
        Elementary operations of NumPy on arrays.
    """

    bytes: int
    work: int


def json_cost(size: int) -> Cost:
    """Of reading a JSON text of so many bytes.

    Examples
    --------
    >>> json_cost(100)
    Cost(bytes=3200, work=1600)
    """
    return Cost(_JSON_BYTES * size, _JSON_WORK * size)


class Budget:
    """What is left for a file, or for the predictions of its model.

    Parameters
    ----------
    max_bytes : int
        The most that arrays may take together, at any time.
    images : int
        Of a batch: each may take as much.

    Examples
    --------
    >>> budget = Budget(1000)
    >>> budget.keep(600)
    >>> budget.require(Cost(500, 1))
    Traceback (most recent call last):
    ValueError: needs 500 bytes, more than max_bytes leaves (400)
    """

    def __init__(self, max_bytes: int = MAX_BYTES, images: int = 1) -> None:
        self.bytes = max_bytes * images
        self.work = max(LEAST_WORK, LOADING_WORK * self.bytes)
        self.step_work = max(LEAST_WORK, STEP_WORK * self.bytes)

    @classmethod
    def of_a_run(cls, max_bytes: int, images: int) -> Budget:
        """For steps whose cost is only known when they run."""
        budget = cls(max_bytes, images)
        budget.work = budget.step_work
        return budget

    @classmethod
    def of_objects(cls, max_bytes: int) -> Budget:
        """For what a file becomes in Python's objects while it is read."""
        return cls(max(LEAST_OBJECT_BYTES, max_bytes))

    def require(self, cost: Cost, what: str = "") -> None:
        """Ask for what is computed now; its memory is given back.

        Parameters
        ----------
        cost : Cost
        what : str
            How the error begins.

        Raises
        ------
        ValueError
            Telling what it needs, and what is left.
        """
        self._ask_bytes(cost.bytes, what)
        self.work = _spent(self.work, cost.work, what)

    def require_step(self, cost: Cost) -> None:
        """Ask for what every prediction computes anew; raises as `require` does."""
        self._ask_bytes(cost.bytes, "")
        self.step_work = _spent(self.step_work, cost.work, "")

    def keep(self, size: int, what: str = "") -> None:
        """Ask for bytes that stay; raises as `require` does."""
        self._ask_bytes(size, what)
        self.bytes -= size

    def release(self, size: int) -> None:
        """Give back bytes that were kept."""
        self.bytes += size

    def _ask_bytes(self, size: int, what: str) -> None:
        if size > self.bytes:
            raise ValueError(_prefix(what) + f"needs {size} bytes, more than max_bytes leaves ({max(0, self.bytes)})")


def _spent(left: int, work: int, what: str) -> int:
    if work > left:
        message = f"needs work of {work} elementary operations, more than max_bytes allows ({left})"
        raise ValueError(_prefix(what) + message)
    return left - work


def _prefix(what: str) -> str:
    return f"{what}: " if what else ""

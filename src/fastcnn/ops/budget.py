"""The budget of a file: bytes of memory and elementary operations, which are asked for before they are spent.

Loaders, folding, the evaluation of general operations and compiling ask one `Budget`. ops/general and compiler/cost.py
tell the cost of operations. The readers of a file tell the cost of its text and messages.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CALL", "KERNEL", "MAX_BYTES", "NODE_BYTES", "Budget", "Cost", "json_cost"]

# The default limit for files and predictions.
MAX_BYTES = 4 << 30
# Elementary operations for each byte of `max_bytes`: before the first prediction, and for the steps of each prediction.
LOADING_WORK, STEP_WORK = 8, 256
# The work that is always allowed, however small `max_bytes` is.
LEAST_WORK = 1 << 28
# A call of NumPy takes as long as CALL elementary operations. A kernel or a matrix product computes KERNEL operations
# in the time of one elementary operation.
CALL, KERNEL = 2000, 16
# Bytes of Python's objects for a node, from the file to the plan.
NODE_BYTES = 4096
# Bytes of Python's objects that are always allowed while a file is read, however small `max_bytes` is.
LEAST_OBJECT_BYTES = 2 << 20
# Upper bounds for a byte of JSON: bytes of Python's objects, and operations to read it. An empty list or dictionary
# takes three bytes of JSON.
_JSON_BYTES, _JSON_WORK = 32, 16


class Cost(NamedTuple):
    """Upper bounds for a computation.

    Attributes
    ----------
    bytes : int
        The peak of what it allocates, with its results and without its inputs.
    work : int
        Elementary operations of NumPy on arrays.
    """

    bytes: int
    work: int


def json_cost(size: int) -> Cost:
    """The cost of reading a JSON text of `size` bytes.

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
        The most bytes that arrays may take at any time.
    images : int
        The images of a batch, each of which may take as much.

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
        """The budget of steps whose cost is only known when they run."""
        budget = cls(max_bytes, images)
        budget.work = budget.step_work
        return budget

    @classmethod
    def of_objects(cls, max_bytes: int) -> Budget:
        """The budget of Python's objects while a file is read."""
        return cls(max(LEAST_OBJECT_BYTES, max_bytes))

    def require(self, cost: Cost, what: str = "") -> None:
        """Ask for a computation; its memory is free again when it is done.

        Parameters
        ----------
        cost : Cost
        what : str
            The beginning of the error.

        Raises
        ------
        ValueError
            If it needs more than is left; both are told.
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

"""Access: how the kernel of a node reads its operands and writes its output.

Operations tell it by `Op.access`; compiler/layout.py and compiler/memory.py place values accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastcnn.kernels.view import NO_HALO, Halo

__all__ = ["Access"]


@dataclass(frozen=True)
class Access:
    """The access pattern of one node.

    Attributes
    ----------
    layout : {"plain", "blocked", "follow", "parameter"}
        How values are stored that it reads and writes: as NCHW, in blocks of channels, as its operands come, or as
        training stores parameters.
    halo : tuple of int
        Zeros that it reads around its first operand: top, left, bottom, right.
    overwrites : tuple of int
        Inputs that the output may take the memory of: it reads each element for the same one of the output alone,
        before it writes that.
    reads_narrow : bool
        Whether it reads images of few channels as one narrow block.
    reads_plain : bool
        Whether it reads its first operand as it is where that is plain, though its layout is blocked.
    writes_plain : bool
        Whether it can write a plain output, though its layout is blocked.
    pads_rows : bool
        Whether it stores whole vectors, and so numbers behind the end of a row.
    pools : bool
        Whether it can take maxima of 2 x 2 outputs on the way, of any step's output.
    pools_input : bool
        The same, of a graph's input alone.

    Examples
    --------
    >>> Access("follow", overwrites=(0, 1)).halo
    (0, 0, 0, 0)
    """

    layout: str = "plain"
    halo: Halo = NO_HALO
    overwrites: tuple[int, ...] = ()
    reads_narrow: bool = False
    reads_plain: bool = False
    writes_plain: bool = False
    pads_rows: bool = False
    pools: bool = False
    pools_input: bool = False

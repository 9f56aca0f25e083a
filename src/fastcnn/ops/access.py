"""Access: how the kernel of a node reads its operands and writes its output.

Operations tell it by `Op.access`; compiler/layout.py and compiler/memory.py place values accordingly.
"""

from __future__ import annotations

from fastcnn._record import record
from fastcnn.kernels.view import FLOAT32, NO_HALO, Halo

__all__ = ["Access"]


@record
class Access:
    """The access pattern of one node.

    Attributes
    ----------
    layout : {"plain", "blocked", "follow", "parameter"}
        How the values that it reads and writes are stored: as NCHW, in blocks of channels, as its operands are, or as
        the parameters of training.
    halo : tuple of int
        Padding that it reads around its first operand: top, left, bottom, right.
    overwrites : tuple of int
        Inputs whose memory the output may take. Each of their elements is read for the same element of the output
        alone, before that is written.
    plain : tuple of int
        Inputs that it reads as plain values, whatever the layout.
    reads_narrow : bool
        Whether it reads images of few channels as one narrow block.
    reads_plain : bool
        Whether it reads a plain first operand as it is, though its layout is blocked.
    writes_plain : bool
        Whether it can write a plain output, though its layout is blocked.
    pads_rows : bool
        Whether it stores full vectors, and so writes behind the end of a row.
    pools : bool
        Whether it can store the maxima of 2 x 2 outputs in place of its outputs.
    pools_input : bool
        Whether it can do that only if it reads an input of the graph.
    element : str
        Type of what it writes, as in `View`. An operation that only moves values writes the type that it reads.
    fill : int
        The byte that the padding of its output consists of.
    narrow : int
        Lanes of the narrow block that it reads; 0: as many as there are channels.
    reads_any : bool
        Whether it reads its operands in any lanes, whatever it writes.
    writes_narrow : bool
        Whether it can write the narrow block that its readers want.

    Examples
    --------
    >>> Access("follow", overwrites=(0, 1)).halo
    (0, 0, 0, 0)
    """

    layout: str = "plain"
    halo: Halo = NO_HALO
    overwrites: tuple[int, ...] = ()
    plain: tuple[int, ...] = ()
    reads_narrow: bool = False
    reads_plain: bool = False
    writes_plain: bool = False
    pads_rows: bool = False
    pools: bool = False
    pools_input: bool = False
    element: str = FLOAT32
    fill: int = 0
    narrow: int = 0
    reads_any: bool = False
    writes_narrow: bool = False

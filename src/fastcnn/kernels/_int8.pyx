"""Which instructions for 8-bit layers are in use, beside the instruction set of floats that _cpu chooses: the fastest
that this machine runs, whose vectors have the same length."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t, int32_t, uint8_t

from collections import namedtuple

import numpy as np

from fastcnn.kernels._cpu cimport current
from fastcnn.kernels._step cimport address, ceil_div

from fastcnn.kernels._cpu import best_rate

cdef extern from "int8.h":
    const fc_int8_kernels *const *fc_all_int8_kernels()

_wanted = None  # a name, where the fastest is not wanted


cdef const fc_int8_kernels *_find(name) except? NULL:
    """The first usable table, or that of a name; NULL where there is none."""
    cdef const fc_int8_kernels *const *table = fc_all_int8_kernels()
    while table[0] != NULL:
        if table[0].available and table[0].vl == current().vl:
            if name is None or name == table[0].name.decode():
                return table[0]
        table += 1
    return NULL


cdef const fc_int8_kernels *tiles() except NULL:
    cdef const fc_int8_kernels *table = _find(_wanted)
    if table == NULL:
        table = _find(None)  # the wanted one belongs to another instruction set of floats
    if table == NULL:
        raise RuntimeError("this machine has no instructions for 8-bit layers beside those for floats")
    return table


def int8_names():
    """Names of the instructions for 8-bit layers that can be used beside the instruction set of floats in use, fastest
    first.

    Examples
    --------
    >>> len(int8_names()) > 0
    True
    """
    names = []
    cdef const fc_int8_kernels *const *table = fc_all_int8_kernels()
    while table[0] != NULL:
        if table[0].available and table[0].vl == current().vl:
            names.append(table[0].name.decode())
        table += 1
    return names


def int8_isa():
    """Name of the instructions for 8-bit layers in use."""
    return tiles().name.decode()


def set_int8_isa(name):
    """Use other instructions for 8-bit layers from now on. Returns what was wanted before.

    Parameters
    ----------
    name : str or None
        One of `int8_names()`; None for the fastest.

    Raises
    ------
    ValueError
        Where they cannot be used.

    Examples
    --------
    >>> previous = set_int8_isa(int8_names()[-1])
    >>> set_int8_isa(previous) == int8_names()[-1]
    True
    """
    global _wanted
    if name is not None and _find(name) == NULL:
        raise ValueError(f"name={name!r}, expected one of {', '.join(int8_names())}")
    previous, _wanted = _wanted, name
    return previous


# Outputs of a quad of packed weights, its bytes, and whether products take x - 128.
QuadLayout = namedtuple("QuadLayout", "lanes quad_bytes flips")


def quad_layout():
    """How the tiles in use take weights.

    Examples
    --------
    >>> quad_layout().quad_bytes % (4 * quad_layout().lanes)
    0
    """
    return QuadLayout(tiles().vl, tiles().quad_bytes, tiles().flips == 1)


def pack_quads(quads, packed, ptrdiff_t place):
    """Pack weights as the tiles in use take them.

    Parameters
    ----------
    quads : int8 array (..., VL, 4)
    packed : uint8 array
        OUT.
    place : int
        The byte where they begin.

    Returns
    -------
    int
        The byte behind them.
    """
    cdef ptrdiff_t count = quads.size // (QUAD * tiles().vl), size = count * tiles().quad_bytes
    quads = np.ascontiguousarray(quads, np.int8)
    if place < 0 or place + size > packed.nbytes:
        raise ValueError(f"packed has {packed.nbytes} bytes, expected {place + size}")
    if count:
        tiles().pack(<const int8_t *>address(quads), <char *>address(packed) + place, count)
    return place + size


def depthwise_order(ptrdiff_t kw, ptrdiff_t stride, ptrdiff_t dilation):
    """How many neighbouring outputs of a depthwise filter share the quads of a row of taps, and how many quads a row
    has.

    Returns
    -------
    tuple of int
        Without outputs, quads are any four taps.

    Examples
    --------
    >>> depthwise_order(5, 1, 1), depthwise_order(3, 2, 2)
    ((4, 2), (0, 0))
    """
    cdef int outputs = fc_int8_outputs(kw, stride) if dilation == 1 else 0
    return outputs, fc_int8_quads(kw) if outputs else 0


cdef const char *first_quad(object packed, ptrdiff_t outs) except NULL:
    cdef ptrdiff_t vl = tiles().vl
    return <const char *>address(packed) + (4 * ceil_div(outs, vl) * vl if tiles().flips else 0)


def measure_int8_peak(double seconds=0.05):
    """Peak of one core in products of bytes, as the best of several bursts. A product and its addition are two
    operations.

    Parameters
    ----------
    seconds : float
        Time to spend.

    Returns
    -------
    float
        Operations per second.

    Examples
    --------
    >>> measure_int8_peak(0.01) > 1e7
    True
    """
    return best_rate(_burst, seconds)


def _burst():
    cdef int32_t sink
    return tiles().burst(20_000, &sink)


cdef void set_finish(fc_int8_finish *finish, object y, int zero, int low, int high, object table) except *:
    finish.floats, finish.zero, finish.table = y.item == 4, zero, NULL
    if table is not None:
        finish.table = <const uint8_t *>address(table)
    finish.low, finish.high = low - zero, high - zero
    finish.residual_scale, finish.residual_zero, finish.rounds = 0, 0, 0
    finish.lanes, finish.look_up = tiles().vl, tiles().look_up


cdef void set_bounded(fc_int8_finish *finish, ptrdiff_t products, object bias, object scale) except *:
    cdef double most = products * 255.0 * 128 + max(abs(int(bias.max(initial=0))), abs(int(bias.min(initial=0))))
    cdef double factor = max(float(scale.max(initial=0)), -float(scale.min(initial=0)))
    # In double precision, with room for the roundings of single. A NaN compares as false.
    finish.bounded = most * factor + 255.0 * abs(finish.residual_scale) < 2.0 ** 30

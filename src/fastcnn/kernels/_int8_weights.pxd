from libc.stddef cimport ptrdiff_t

cdef enum:
    QUAD = 4  # neighbouring inputs whose products one instruction adds

# For the packed weights of a layer: its bias and its factors in full blocks of outputs, and where the quads begin. The
# caller keeps the arrays alive.
cdef object padded_bias(bias, packed)
cdef object padded_scale(scale)
cdef const char *first_quad(object packed, ptrdiff_t outs) except NULL

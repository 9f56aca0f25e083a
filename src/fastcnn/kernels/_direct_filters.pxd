from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport ceil_div

# The number of bundles of at most `most` blocks. Where bundles may have more than two blocks, the number is even: two
# threads then have the same work.
cdef inline ptrdiff_t count_bundles(ptrdiff_t blocks, ptrdiff_t most) noexcept nogil:
    if most <= 2:
        return ceil_div(blocks, most)
    return 1 if blocks < 4 else 2 * ceil_div(blocks, 2 * most)

# The first block of a bundle.
cdef inline ptrdiff_t bundle_begin(ptrdiff_t blocks, ptrdiff_t bundles, ptrdiff_t bundle) noexcept nogil:
    return ceil_div(blocks * bundle, bundles)

cdef struct Bundle:
    ptrdiff_t begin, width  # the first block, and the number of blocks

# The bundle that holds a block.
cdef inline Bundle bundle_of(ptrdiff_t block, ptrdiff_t blocks, ptrdiff_t most) noexcept nogil:
    cdef ptrdiff_t bundles = count_bundles(blocks, most), number = block * bundles // blocks
    cdef Bundle bundle
    bundle.begin = bundle_begin(blocks, bundles, number)
    bundle.width = bundle_begin(blocks, bundles, number + 1) - bundle.begin
    return bundle

cdef object bundle_begins(ptrdiff_t blocks, ptrdiff_t most)

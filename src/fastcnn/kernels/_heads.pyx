"""The heads of images whose pixels are tokens: gathered and packed for products, and brought back to their channels.

_attention.pyx computes attention of them, and _attention_grad.pyx its gradients.
"""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy

from fastcnn.kernels._product cimport packed_block
from fastcnn.kernels._step cimport ceil_div, goes_on
from fastcnn.kernels._tiles cimport fc_kernels, fc_scaled_pixels, fc_tensor


# Pixels of an image that lie side by side.
cdef struct Run:
    ptrdiff_t row, column, pixels


cdef Channels channels_of(ptrdiff_t start, ptrdiff_t step, ptrdiff_t count, ptrdiff_t heads, ptrdiff_t vl) noexcept:
    cdef Channels c
    c.start, c.step, c.count = start, step, count
    c.whole = start % vl == 0 and (step % vl == 0 or heads == 1)
    return c


cdef void flatten(fc_tensor *t) noexcept:
    """Take the pixels of an image without gaps as one row."""
    if t.row == t.w * t.lanes:
        t.h, t.w, t.row = 1, t.h * t.w, t.h * t.row


cdef bint next_run(const fc_tensor *t, ptrdiff_t first, ptrdiff_t last, Run *run) noexcept nogil:
    """Take the pixels of one row from `first` on. Returns whether there are any before `last`."""
    run.row, run.column = first // t.w, first % t.w
    run.pixels = min(last - first, t.w - run.column)
    return first < last


cdef const float *pixel_of(const fc_tensor *t, ptrdiff_t vl, ptrdiff_t image, ptrdiff_t channel,
                           ptrdiff_t pixel) noexcept nogil:
    """The block with a channel of a pixel."""
    return t.data + image * t.image + channel // vl * t.block + pixel // t.w * t.row + pixel % t.w * vl


cdef void gather(const fc_kernels *kernels, const fc_tensor *t, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t count,
                 ptrdiff_t first, ptrdiff_t pixels, float *y, ptrdiff_t y_pixel) noexcept nogil:
    """Copy up to VL channels of some pixels to vectors y_pixel apart. Lanes beyond `count` may hold anything."""
    cdef ptrdiff_t vl = kernels.vl, lane = channel % vl, low = min(count, vl - lane), p
    cdef const float *x
    cdef Run run
    while next_run(t, first, first + pixels, &run):
        x = pixel_of(t, vl, image, channel, first)
        if lane == 0:
            kernels.copy_pixels(x, vl, y, y_pixel, run.pixels)
        else:
            for p in range(run.pixels):
                memcpy(y + p * y_pixel, x + p * vl + lane, low * sizeof(float))
                if low < count:
                    memcpy(y + p * y_pixel + low, x + p * vl + t.block, (count - low) * sizeof(float))
        y, first, pixels = y + run.pixels * y_pixel, first + run.pixels, pixels - run.pixels


cdef void gather_head(const fc_kernels *kernels, const fc_tensor *t, const Channels *c, ptrdiff_t image,
                      ptrdiff_t head, ptrdiff_t first, ptrdiff_t pixels, float *y, ptrdiff_t y_block) noexcept nogil:
    """Copy some pixels of a head to [block][pixel][VL]."""
    cdef ptrdiff_t vl = kernels.vl, channel = c.start + head * c.step, part
    for part in range(ceil_div(c.count, vl)):
        gather(kernels, t, image, channel + part * vl, min(vl, c.count - part * vl), first, pixels,
               y + part * y_block, vl)


cdef void scatter(const fc_tensor *t, ptrdiff_t vl, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t count,
                  ptrdiff_t first, ptrdiff_t pixels, const float *x) noexcept nogil:
    """Copy up to VL channels of some pixels from neighbouring vectors, and nothing else: the inverse of `gather`."""
    cdef ptrdiff_t lane = channel % vl, low = min(count, vl - lane), p
    cdef float *y
    cdef Run run
    while next_run(t, first, first + pixels, &run):
        y = <float *>pixel_of(t, vl, image, channel, first)
        for p in range(run.pixels):
            memcpy(y + p * vl + lane, x + p * vl, low * sizeof(float))
            if low < count:
                memcpy(y + p * vl + t.block, x + p * vl + low, (count - low) * sizeof(float))
        x, first, pixels = x + run.pixels * vl, first + run.pixels, pixels - run.pixels


cdef bint pack_turned(const fc_kernels *kernels, const fc_tensor *t, const Channels *c, ptrdiff_t image,
                      ptrdiff_t head, bint ones, float *packed, float *some, bint watched) noexcept nogil:
    """Pack the transposed tokens of a head, as weights whose outputs they are. `some` is room for VL vectors.

    With `ones` the inner axis has one more element, which is 1. Returns whether the run continues.
    """
    cdef ptrdiff_t vl = kernels.vl, tokens = t.h * t.w, blocks = ceil_div(tokens, vl)
    cdef ptrdiff_t channel = c.start + head * c.step, block, part, here, count, lane, step = 0
    cdef bint in_place = c.whole and t.h == 1
    cdef const float *x = pixel_of(t, vl, image, channel, 0)
    cdef float *to
    for block in range(blocks):
        if watched and not goes_on(2 * c.count):
            return False
        here = min(vl, tokens - block * vl)
        to = packed_block(kernels, packed, c.count + ones, block, blocks, &step)
        for part in range(ceil_div(c.count, vl)):
            count = min(vl, c.count - part * vl)
            if in_place:
                kernels.turn(x + part * t.block + block * vl * vl, vl, to, step, here, count)
            else:
                gather(kernels, t, image, channel + part * vl, count, block * vl, here, some, vl)
                kernels.turn(some, vl, to, step, here, count)
            to += count * step
        for lane in range(vl if ones else 0):
            to[lane] = 1.0
    return True


cdef bint pack_rows(const fc_kernels *kernels, const fc_tensor *t, const Channels *c, ptrdiff_t image, ptrdiff_t head,
                    ptrdiff_t first, ptrdiff_t pixels, float *packed, bint watched) noexcept nogil:
    """Pack some tokens of a head, as weights whose outputs its channels are. Returns whether the run continues."""
    cdef ptrdiff_t vl = kernels.vl, blocks = ceil_div(c.count, vl), channel = c.start + head * c.step, block, step = 0
    cdef float *to
    for block in range(blocks):
        if watched and not goes_on(pixels):
            return False
        to = packed_block(kernels, packed, pixels, block, blocks, &step)
        gather(kernels, t, image, channel + block * vl, min(vl, c.count - block * vl), first, pixels, to, step)
    return True


cdef void store_head(const fc_kernels *kernels, const fc_tensor *y, const Channels *c, ptrdiff_t image, ptrdiff_t head,
                     ptrdiff_t first, ptrdiff_t pixels, float *x, fc_scaled_pixels scaled) noexcept nogil:
    """Multiply results [block][pixel][VL] of some pixels of a head, and bring them to its channels.

    `scaled` tells the factors, the distance of blocks, and how many channels are written where heads are blocks.
    """
    cdef ptrdiff_t vl = kernels.vl, channel = c.start + head * c.step, blocks = ceil_div(c.count, vl), done = 0, block
    cdef const float *scale = scaled.scale
    cdef Run run
    if not c.whole:
        scaled.x, scaled.y, scaled.y_block, scaled.y_pixel = x, x, scaled.x_block, vl
        scaled.pixels, scaled.channels = pixels, blocks * vl
        kernels.scale_pixels(&scaled)
        for block in range(blocks):
            scatter(y, vl, image, channel + block * vl, min(vl, c.count - block * vl), first, pixels,
                    x + block * scaled.x_block)
        return
    while next_run(y, first + done, first + pixels, &run):
        scaled.x, scaled.scale, scaled.pixels = x + done * vl, scale + done * scaled.scale_step, run.pixels
        scaled.y = <float *>pixel_of(y, vl, image, channel, first + done)
        kernels.scale_pixels(&scaled)
        done += run.pixels

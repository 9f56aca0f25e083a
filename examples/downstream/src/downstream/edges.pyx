"""Edges of grey images: one convolution, prepared once and run without the GIL."""

from fastcnn.capi cimport (
    FC_ACT_RELU, FC_DONE, fc_activate, fc_conv2d, fc_images, fc_import, fc_last_error, fc_plan, fc_plan_free,
    fc_plan_run, fc_prepare_conv2d,
)

fc_import()


cdef class Edges:
    """A filter for images of one size.

    Parameters
    ----------
    height, width : int
    threads : int
        The most that a call uses.
    """

    cdef fc_plan *plan
    cdef Py_ssize_t height, width

    def __cinit__(self, Py_ssize_t height, Py_ssize_t width, int threads=1):
        cdef fc_images image
        cdef fc_conv2d conv
        cdef fc_activate act
        cdef float[9] sobel = [-1, 0, 1, -2, 0, 2, -1, 0, 1]
        self.height, self.width = height, width
        image.n, image.c, image.h, image.w = 1, 1, height, width
        image.image_stride = image.channel_stride = image.row_stride = 0  # contiguous
        conv.out_channels, conv.groups = 1, 1
        conv.kernel = [3, 3]
        conv.stride, conv.dilation = [1, 1], [1, 1]
        conv.padding = [1, 1, 1, 1]
        act.kind, act.negative_slope = FC_ACT_RELU, 0
        if fc_prepare_conv2d(&self.plan, &image, NULL, &conv, sobel, NULL, &act, threads) != FC_DONE:
            raise ValueError(fc_last_error().decode())

    def __dealloc__(self):
        fc_plan_free(self.plan)

    def __call__(self, const float[:, ::1] image, float[:, ::1] out):
        """Write the rising edges of an image to `out`; other Python threads run meanwhile."""
        cdef int status
        if image.shape[0] != self.height or image.shape[1] != self.width:
            raise ValueError(f"got {image.shape[0]} x {image.shape[1]} pixels, expected {self.height} x {self.width}")
        if out.shape[0] != self.height or out.shape[1] != self.width:
            raise ValueError("out has not the shape of the image")
        with nogil:
            status = fc_plan_run(self.plan, &image[0, 0], &out[0, 0])
        if status != FC_DONE:
            raise RuntimeError(fc_last_error().decode())

# fastcnn from Cython: what include/fastcnn/capi.h declares, where it is explained. Extensions that cimport this need
# fastcnn.get_include() among their include_dirs, and call fc_import() before anything else.
from cpython.object cimport PyObject
from libc.stddef cimport ptrdiff_t, size_t

cdef extern from "fastcnn/capi.h" nogil:
    enum:
        FC_ABI_VERSION
        FC_DONE, FC_BAD_ARGUMENT, FC_NO_MEMORY, FC_BUSY, FC_FAILED
        FC_ACT_NONE, FC_ACT_RELU, FC_ACT_RELU6, FC_ACT_LEAKY_RELU
        FC_ACT_TANH, FC_ACT_SIGMOID, FC_ACT_HARD_SWISH, FC_ACT_SILU
        FC_ACT_GELU, FC_ACT_GELU_TANH

    ctypedef struct fc_plan

    ctypedef struct fc_images:
        ptrdiff_t n, c, h, w
        ptrdiff_t image_stride, channel_stride, row_stride

    ctypedef struct fc_conv2d:
        ptrdiff_t out_channels
        ptrdiff_t kernel[2]
        ptrdiff_t stride[2]
        ptrdiff_t padding[4]
        ptrdiff_t dilation[2]
        ptrdiff_t groups

    ctypedef struct fc_pool2d:
        ptrdiff_t kernel[2]
        ptrdiff_t stride[2]
        ptrdiff_t padding[4]
        int count_include_pad

    ctypedef struct fc_activate:
        int kind
        float negative_slope

    const char *fc_version() noexcept
    const char *fc_last_error() noexcept
    int fc_prepare_conv2d(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                          const float *weights, const float *bias, const fc_activate *act, int threads) noexcept
    int fc_prepare_conv2d_grad_input(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                                     const float *weights, int threads) noexcept
    int fc_prepare_conv2d_grad_weight(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                                      int threads) noexcept
    int fc_prepare_matmul(fc_plan **plan, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t out, const float *weights,
                          const float *bias, const fc_activate *act, int threads) noexcept
    int fc_prepare_max_pool2d(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_pool2d *pool,
                              int threads) noexcept
    int fc_prepare_avg_pool2d(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_pool2d *pool,
                              int threads) noexcept
    int fc_prepare_activation(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_activate *act,
                              int threads) noexcept
    int fc_plan_clone(fc_plan **copy, fc_plan *plan) noexcept
    void fc_plan_free(fc_plan *plan) noexcept
    ptrdiff_t fc_plan_input_size(const fc_plan *plan, int index) noexcept
    ptrdiff_t fc_plan_output_size(const fc_plan *plan) noexcept
    size_t fc_plan_workspace(const fc_plan *plan) noexcept
    int fc_run(fc_plan *plan, const float *const *inputs, float *output, int threads) noexcept
    int fc_plan_run(fc_plan *plan, const float *input, float *output) noexcept

cdef extern from "fastcnn/capi.h":
    int fc_plan_from_model(fc_plan **plan, object model, ptrdiff_t batch, int threads) noexcept
    int fc_import() except -1

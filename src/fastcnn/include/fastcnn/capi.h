/* capi.h: fastcnn from C, C++ and Cython.
 *
 * Prepare once, run many times. `fc_prepare_*` and `fc_plan_from_model` compile a plan: they pack weights and allocate
 * all memory. They may be called on any thread, with or without the GIL, and take it. `fc_run` and `fc_plan_run` need
 * no GIL, allocate nothing, and may be called on any thread, also of the caller's own OpenMP or C++ threads.
 *
 * One thread at a time runs a plan; `fc_plan_clone` gives a thread a plan of its own, with the same packed weights.
 * Errors are codes; `fc_last_error` has the message. Nothing is thrown, and no Python exception is left behind.
 *
 *     #include <fastcnn/capi.h>        with the folder that fastcnn.get_include() returns
 *     if (fc_import() < 0) return NULL;   in each file that calls fastcnn, with the GIL; sets a Python exception
 *
 * The interface only grows: functions are added at the end of fc_functions. A program that was compiled with an older
 * header runs with a newer fastcnn of the same FC_ABI_VERSION.
 */
#ifndef FASTCNN_CAPI_H
#define FASTCNN_CAPI_H

#include <Python.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FC_ABI_VERSION 1

enum {
    FC_DONE = 0,
    FC_BAD_ARGUMENT = 1, /* an argument is not allowed */
    FC_NO_MEMORY = 2,
    FC_BUSY = 3, /* another thread runs this plan */
    FC_FAILED = 4 /* anything else; also a process that was forked while it ran */
};

enum {
    FC_ACT_NONE, FC_ACT_RELU, FC_ACT_RELU6, FC_ACT_LEAKY_RELU, FC_ACT_TANH, FC_ACT_SIGMOID, FC_ACT_HARD_SWISH, FC_ACT_SILU,
    FC_ACT_GELU, FC_ACT_GELU_TANH
};

/* A compiled computation with memory of its own. */
typedef struct fc_plan fc_plan;

/* Float32 images (N, C, H, W). Strides count floats, from one image, channel and row to the next; pixels of a row are
 * adjacent. All strides 0: contiguous. */
typedef struct {
    ptrdiff_t n, c, h, w;
    ptrdiff_t image_stride, channel_stride, row_stride;
} fc_images;

/* Filters (out, in / groups, height, width), contiguous. Padding: top, left, bottom, right. */
typedef struct {
    ptrdiff_t out_channels, kernel[2], stride[2], padding[4], dilation[2], groups;
} fc_conv2d;

typedef struct {
    ptrdiff_t kernel[2], stride[2], padding[4];
    int count_include_pad; /* of average pooling: whether zeros around the image count */
} fc_pool2d;

typedef struct {
    int kind; /* FC_ACT_NONE and so on */
    float negative_slope; /* of FC_ACT_LEAKY_RELU */
} fc_activate;

/* Arguments that all functions share: `plan` receives the plan. `x` and `y` describe input and output; `y` may be NULL
 * for a contiguous one, and its sizes are not read. Weights and bias are copied; a `bias` of NULL is none. Weights of
 * NULL are given to every run, as its second input. `act` of NULL is none. `threads` is the most that a run may use. */
typedef struct {
    int abi_version; /* FC_ABI_VERSION */
    size_t size;     /* of this struct; it grows */
    const char *(*version)(void);
    const char *(*last_error)(void); /* of this thread; valid until its next call */
    /* inputs: x, and the weights where they are NULL */
    int (*prepare_conv2d)(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                          const float *weights, const float *bias, const fc_activate *act, int threads);
    /* The gradient of the loss by x. Inputs: the gradient by y, and the weights where they are NULL. */
    int (*prepare_conv2d_grad_input)(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                                     const float *weights, int threads);
    /* The gradient by the weights. Inputs: x, and the gradient by y. */
    int (*prepare_conv2d_grad_weight)(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                                      int threads);
    /* y (rows, out) = x (rows, in) times weights (out, in), transposed, plus bias. Contiguous. */
    int (*prepare_matmul)(fc_plan **plan, ptrdiff_t rows, ptrdiff_t in, ptrdiff_t out, const float *weights,
                          const float *bias, const fc_activate *act, int threads);
    int (*prepare_max_pool2d)(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_pool2d *pool,
                              int threads);
    int (*prepare_avg_pool2d)(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_pool2d *pool,
                              int threads);
    int (*prepare_activation)(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_activate *act,
                              int threads);
    /* A fastcnn.Model, for batches of `batch` inputs of the model's input_shape. It keeps today's weights. */
    int (*plan_from_model)(fc_plan **plan, PyObject *model, ptrdiff_t batch, int threads);
    int (*plan_clone)(fc_plan **copy, fc_plan *plan);
    void (*plan_free)(fc_plan *plan); /* NULL is nothing; may be called without the GIL */
    /* Floats of an input or of the output, gaps of strides not counted; -1 for an index beyond the inputs. */
    ptrdiff_t (*plan_input_size)(const fc_plan *plan, int index);
    ptrdiff_t (*plan_output_size)(const fc_plan *plan);
    size_t (*plan_workspace)(const fc_plan *plan); /* bytes of memory, packed weights not counted */
    int (*run)(fc_plan *plan, const float *const *inputs, float *output, int threads);
} fc_functions;

static const fc_functions *fc_api = NULL;

#define fc_version (fc_api->version)
#define fc_last_error (fc_api->last_error)
#define fc_prepare_conv2d (fc_api->prepare_conv2d)
#define fc_prepare_conv2d_grad_input (fc_api->prepare_conv2d_grad_input)
#define fc_prepare_conv2d_grad_weight (fc_api->prepare_conv2d_grad_weight)
#define fc_prepare_matmul (fc_api->prepare_matmul)
#define fc_prepare_max_pool2d (fc_api->prepare_max_pool2d)
#define fc_prepare_avg_pool2d (fc_api->prepare_avg_pool2d)
#define fc_prepare_activation (fc_api->prepare_activation)
#define fc_plan_from_model (fc_api->plan_from_model)
#define fc_plan_clone (fc_api->plan_clone)
#define fc_plan_free (fc_api->plan_free)
#define fc_plan_input_size (fc_api->plan_input_size)
#define fc_plan_output_size (fc_api->plan_output_size)
#define fc_plan_workspace (fc_api->plan_workspace)
#define fc_run (fc_api->run)

/* Run a plan of one input, on as many threads as it was prepared for. */
static inline int fc_plan_run(fc_plan *plan, const float *input, float *output)
{
    return fc_api->run(plan, &input, output, 1 << 20);
}

/* Load fastcnn. Call it once in each file, with the GIL. Returns -1 and sets a Python exception where that fails. */
static inline int fc_import(void)
{
    const fc_functions *found = (const fc_functions *)PyCapsule_Import("fastcnn._capi", 0);
    if (found == NULL)
        return -1;
    if (found->abi_version != FC_ABI_VERSION || found->size < sizeof(fc_functions)) {
        PyErr_Format(PyExc_ImportError, "compiled for version %d of fastcnn's C API with %d bytes of functions; "
                     "fastcnn %s has version %d with %d bytes", FC_ABI_VERSION, (int)sizeof(fc_functions),
                     found->version(), found->abi_version, (int)found->size);
        return -1;
    }
    fc_api = found;
    return 0;
}

#ifdef __cplusplus
}
#endif

#endif

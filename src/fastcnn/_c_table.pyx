"""The functions of the C API, in a capsule. include/fastcnn/capi.h describes them; prepared.py prepares their plans."""

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stddef cimport ptrdiff_t
from libc.string cimport strncpy

from fastcnn.capi cimport (
    FC_ABI_VERSION, FC_BAD_ARGUMENT, FC_BUSY, FC_DONE, FC_FAILED, FC_NO_MEMORY,
    FC_ACT_GELU, FC_ACT_GELU_TANH, FC_ACT_HARD_SWISH, FC_ACT_LEAKY_RELU, FC_ACT_NONE, FC_ACT_RELU, FC_ACT_RELU6,
    FC_ACT_SIGMOID, FC_ACT_SILU, FC_ACT_TANH,
    fc_activate, fc_conv2d, fc_images, fc_plan, fc_pool2d,
)
from fastcnn.kernels._call cimport CALL_BUSY, CALL_DONE, CALL_RAISED, BoundPlan, Call, run_call
from fastcnn.kernels._team cimport FC_MOST_LANES

import numpy as np

from fastcnn import functional as F
from fastcnn import ops
from fastcnn._version import __version__
from fastcnn.prepared import prepare, prepare_strided

cnp.import_array()

cdef extern from *:
    """
    static _Thread_local char fastcnn_message[1024];
    """
    char *_message "fastcnn_message"

cdef extern from "fastcnn/capi.h":
    ctypedef struct fc_functions:
        int abi_version
        size_t size
        const char *(*version)() noexcept
        const char *(*last_error)() noexcept
        int (*prepare_conv2d)(fc_plan **, const fc_images *, const fc_images *, const fc_conv2d *, const float *,
                              const float *, const fc_activate *, int) noexcept
        int (*prepare_conv2d_grad_input)(fc_plan **, const fc_images *, const fc_images *, const fc_conv2d *,
                                         const float *, int) noexcept
        int (*prepare_conv2d_grad_weight)(fc_plan **, const fc_images *, const fc_images *, const fc_conv2d *,
                                          int) noexcept
        int (*prepare_matmul)(fc_plan **, ptrdiff_t, ptrdiff_t, ptrdiff_t, const float *, const float *,
                              const fc_activate *, int) noexcept
        int (*prepare_max_pool2d)(fc_plan **, const fc_images *, const fc_images *, const fc_pool2d *, int) noexcept
        int (*prepare_avg_pool2d)(fc_plan **, const fc_images *, const fc_images *, const fc_pool2d *, int) noexcept
        int (*prepare_activation)(fc_plan **, const fc_images *, const fc_images *, const fc_activate *, int) noexcept
        int (*plan_from_model)(fc_plan **, PyObject *, ptrdiff_t, int) noexcept
        int (*plan_clone)(fc_plan **, fc_plan *) noexcept
        void (*plan_free)(fc_plan *) noexcept
        ptrdiff_t (*plan_input_size)(const fc_plan *, int) noexcept
        ptrdiff_t (*plan_output_size)(const fc_plan *) noexcept
        size_t (*plan_workspace)(const fc_plan *) noexcept
        int (*run)(fc_plan *, const float *const *, float *, int) noexcept

cdef bytes _version_text = __version__.encode()
cdef const char *_version = _version_text
_ACTIVATIONS = {
    FC_ACT_NONE: lambda x, slope: x,
    FC_ACT_RELU: lambda x, slope: F.relu(x),
    FC_ACT_RELU6: lambda x, slope: F.relu6(x),
    FC_ACT_LEAKY_RELU: lambda x, slope: F.leaky_relu(x, slope),
    FC_ACT_TANH: lambda x, slope: F.tanh(x),
    FC_ACT_SIGMOID: lambda x, slope: F.sigmoid(x),
    FC_ACT_HARD_SWISH: lambda x, slope: F.hardswish(x),
    FC_ACT_SILU: lambda x, slope: F.silu(x),
    FC_ACT_GELU: lambda x, slope: F.gelu(x),
    FC_ACT_GELU_TANH: lambda x, slope: F.gelu(x, "tanh"),
}


cdef int failed(int code, str text) noexcept:
    """Keep a message for `fc_last_error`; return the code."""
    cdef bytes message = text.encode("utf-8", "replace")
    strncpy(_message, message, 1023)
    return code


cdef int report(object error) noexcept:
    """Keep what a Python exception says; return its code."""
    if isinstance(error, MemoryError):
        return failed(FC_NO_MEMORY, str(error) or "out of memory")
    return failed(FC_BAD_ARGUMENT if isinstance(error, (TypeError, ValueError)) else FC_FAILED, str(error))


cdef int keep(fc_plan **plan, object prepared, int threads) except -1:
    """Hand out a plan, which the caller frees."""
    cdef Call call
    if not 1 <= threads <= FC_MOST_LANES:
        raise ValueError(f"threads={threads}, expected 1 to {FC_MOST_LANES}")
    call = prepared.call(threads)
    Py_INCREF(call)
    plan[0] = <fc_plan *>&call.plan
    return FC_DONE


cdef tuple shape_of(const fc_images *x):
    if x == NULL:
        raise ValueError("x is NULL, expected a description of the input")
    return (x.n, x.c, x.h, x.w)


cdef object strides_of(const fc_images *x):
    """The strides that a caller gives; None where the array is contiguous."""
    if x == NULL or (x.image_stride == 0 and x.channel_stride == 0 and x.row_stride == 0):
        return None
    return (x.image_stride, x.channel_stride, x.row_stride)


cdef object copied(const float *values, tuple shape):
    """A copy of a caller's array; None for NULL."""
    cdef cnp.npy_intp size = 1
    if values == NULL:
        return None
    for length in shape:
        if length < 1:
            raise ValueError(f"weights of shape {shape}, expected sizes >= 1")
        size *= length
    return np.array(cnp.PyArray_SimpleNewFromData(1, &size, cnp.NPY_FLOAT32, <void *>values)).reshape(shape)


cdef object activation(const fc_activate *act):
    """A function that applies it."""
    if act == NULL:
        return _ACTIVATIONS[FC_ACT_NONE], 0.0
    if act.kind not in _ACTIVATIONS:
        raise ValueError(f"act->kind={act.kind}, expected FC_ACT_NONE to FC_ACT_GELU_TANH")
    return _ACTIVATIONS[act.kind], act.negative_slope


cdef tuple filters_of(const fc_images *x, const fc_conv2d *conv):
    """Shape of the filters, and the settings as functions of fastcnn.functional take them."""
    if conv == NULL:
        raise ValueError("conv is NULL, expected a description of the convolution")
    if conv.groups < 1 or x.c % conv.groups:
        raise ValueError(f"conv->groups={conv.groups} does not divide the {x.c} channels of x")
    settings = {
        "stride": (conv.stride[0], conv.stride[1]),
        "padding": (conv.padding[0], conv.padding[1], conv.padding[2], conv.padding[3]),
        "dilation": (conv.dilation[0], conv.dilation[1]),
        "groups": conv.groups,
    }
    return (conv.out_channels, x.c // conv.groups, conv.kernel[0], conv.kernel[1]), settings


cdef tuple result_of(tuple shape, tuple filters, dict settings):
    """Shape of the images that a convolution computes."""
    attrs = {
        **ops.get("Conv").defaults, "strides": settings["stride"], "pads": settings["padding"],
        "dilations": settings["dilation"], "group": settings["groups"],
    }
    return ops.get("Conv").infer(attrs, [shape, filters])


cdef object with_weights(call, weight, list shapes, given, found):
    """Prepare `call(x, weights)`, with weights that are packed now or, for None, given to every run.

    `shapes` are of x and the weights, `given` and `found` the strides of x and of the result.
    """
    if weight is None:
        return prepare_strided(call, shapes, [given, None, found])
    return prepare_strided(lambda x: call(x, weight), shapes[:1], [given, found])


cdef int prepare_conv2d(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                        const float *weights, const float *bias, const fc_activate *act,
                        int threads) noexcept with gil:
    try:
        shape = shape_of(x)
        filters, settings = filters_of(x, conv)
        apply, slope = activation(act)
        weight, added = copied(weights, filters), copied(bias, filters[:1])
        prepared = with_weights(lambda x, w: apply(F.conv2d(x, w, added, **settings), slope), weight, [shape, filters],
                                strides_of(x), strides_of(y))
        return keep(plan, prepared, threads)
    except BaseException as error:
        return report(error)


cdef int prepare_conv2d_grad_input(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                                   const float *weights, int threads) noexcept with gil:
    try:
        shape = shape_of(x)
        filters, settings = filters_of(x, conv)
        weight, given = copied(weights, filters), result_of(shape, filters, settings)
        prepared = with_weights(lambda g, w: F.conv2d_grad_input(g, w, shape[2:], **settings), weight, [given, filters],
                                strides_of(y), strides_of(x))
        return keep(plan, prepared, threads)
    except BaseException as error:
        return report(error)


cdef int prepare_conv2d_grad_weight(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_conv2d *conv,
                                    int threads) noexcept with gil:
    try:
        shape = shape_of(x)
        filters, settings = filters_of(x, conv)
        prepared = prepare_strided(
            lambda x, g: F.conv2d_grad_weight(x, g, filters[2:], **settings),
            [shape, result_of(shape, filters, settings)],
            [strides_of(x), strides_of(y), None],
        )
        return keep(plan, prepared, threads)
    except BaseException as error:
        return report(error)


cdef int prepare_matmul(fc_plan **plan, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t out, const float *weights,
                        const float *bias, const fc_activate *act, int threads) noexcept with gil:
    try:
        apply, slope = activation(act)
        weight, added = copied(weights, (out, inner)), copied(bias, (out,))
        prepared = with_weights(lambda x, w: apply(F.linear(x, w, added), slope), weight, [(rows, inner), (out, inner)],
                                None, None)
        return keep(plan, prepared, threads)
    except BaseException as error:
        return report(error)


cdef object window(const fc_pool2d *pool):
    if pool == NULL:
        raise ValueError("pool is NULL, expected a description of the windows")
    padding = (pool.padding[0], pool.padding[1], pool.padding[2], pool.padding[3])
    return (pool.kernel[0], pool.kernel[1]), (pool.stride[0], pool.stride[1]), padding


cdef int prepare_max_pool2d(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_pool2d *pool,
                            int threads) noexcept with gil:
    try:
        place = window(pool)
        prepared = prepare_strided(lambda x: F.max_pool2d(x, *place), [shape_of(x)], [strides_of(x), strides_of(y)])
        return keep(plan, prepared, threads)
    except BaseException as error:
        return report(error)


cdef int prepare_avg_pool2d(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_pool2d *pool,
                            int threads) noexcept with gil:
    try:
        place, counts = window(pool), bool(pool.count_include_pad)
        prepared = prepare_strided(lambda x: F.avg_pool2d(x, *place, count_include_pad=counts), [shape_of(x)],
                                   [strides_of(x), strides_of(y)])
        return keep(plan, prepared, threads)
    except BaseException as error:
        return report(error)


cdef int prepare_activation(fc_plan **plan, const fc_images *x, const fc_images *y, const fc_activate *act,
                            int threads) noexcept with gil:
    try:
        apply, slope = activation(act)
        prepared = prepare_strided(lambda x: apply(x, slope), [shape_of(x)], [strides_of(x), strides_of(y)])
        return keep(plan, prepared, threads)
    except BaseException as error:
        return report(error)


cdef int plan_from_model(fc_plan **plan, PyObject *model, ptrdiff_t batch, int threads) noexcept with gil:
    try:
        network = <object>model if model != NULL else None
        shape = getattr(network, "input_shape", None)
        if shape is None:
            raise ValueError(f"model: got {type(network).__name__}, expected a fastcnn.Model with input_shape set")
        return keep(plan, prepare(network, (batch, *shape)), threads)
    except BaseException as error:
        return report(error)


cdef int plan_clone(fc_plan **copy, fc_plan *plan) noexcept with gil:
    try:
        if plan == NULL:
            raise ValueError("plan is NULL")
        other = (<object>(<BoundPlan *>plan).owner).clone()
        Py_INCREF(other)
        copy[0] = <fc_plan *>&(<Call>other).plan
        return FC_DONE
    except BaseException as error:
        return report(error)


cdef void plan_free(fc_plan *plan) noexcept with gil:
    if plan != NULL:
        Py_DECREF(<object>(<BoundPlan *>plan).owner)


cdef ptrdiff_t plan_input_size(const fc_plan *raw, int index) noexcept nogil:
    cdef const BoundPlan *plan = <const BoundPlan *>raw
    return plan.sizes[index] if 0 <= index < plan.inputs else -1


cdef ptrdiff_t plan_output_size(const fc_plan *raw) noexcept nogil:
    cdef const BoundPlan *plan = <const BoundPlan *>raw
    return plan.sizes[plan.inputs + plan.constants]


cdef size_t plan_workspace(const fc_plan *plan) noexcept nogil:
    return (<const BoundPlan *>plan).workspace


cdef const char *version() noexcept nogil:
    return _version


cdef const char *last_error() noexcept nogil:
    return _message


cdef int run(fc_plan *plan, const float *const *inputs, float *output, int threads) noexcept nogil:
    cdef int status = run_call(
        <BoundPlan *>plan, <const void *const *>inputs, <void *const *>&output, threads, _message)
    if status == CALL_DONE:
        return FC_DONE
    if status == CALL_BUSY:
        strncpy(_message, "another thread runs this plan: give each thread a clone", 1023)
        return FC_BUSY
    if status == CALL_RAISED:
        return FC_FAILED
    strncpy(_message, "the process was forked while the plan ran", 1023)
    return FC_FAILED


cdef fc_functions _functions
_functions.abi_version, _functions.size = FC_ABI_VERSION, sizeof(fc_functions)
_functions.version, _functions.last_error = version, last_error
_functions.prepare_conv2d = prepare_conv2d
_functions.prepare_conv2d_grad_input = prepare_conv2d_grad_input
_functions.prepare_conv2d_grad_weight = prepare_conv2d_grad_weight
_functions.prepare_matmul = prepare_matmul
_functions.prepare_max_pool2d, _functions.prepare_avg_pool2d = prepare_max_pool2d, prepare_avg_pool2d
_functions.prepare_activation = prepare_activation
_functions.plan_from_model, _functions.plan_clone, _functions.plan_free = plan_from_model, plan_clone, plan_free
_functions.plan_input_size, _functions.plan_output_size = plan_input_size, plan_output_size
_functions.plan_workspace, _functions.run = plan_workspace, run

_capi = PyCapsule_New(&_functions, "fastcnn._capi", NULL)

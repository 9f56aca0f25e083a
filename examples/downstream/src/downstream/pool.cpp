// A model that C++ threads of the caller's own run at the same time, each with a plan of its own.
#include <Python.h>
#include <fastcnn/capi.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace {

struct Free {
    void operator()(fc_plan *plan) const { fc_plan_free(plan); }
};
using Plan = std::unique_ptr<fc_plan, Free>;

// Scores of `count` inputs, one after the other in memory. Runs without the GIL.
int run_all(const std::vector<Plan> &plans, const float *inputs, float *outputs, Py_ssize_t count)
{
    const ptrdiff_t size = fc_plan_input_size(plans[0].get(), 0), scores = fc_plan_output_size(plans[0].get());
    std::atomic<Py_ssize_t> next{0};
    std::atomic<int> status{FC_DONE};
    std::vector<std::thread> threads;
    for (const Plan &plan : plans)
        threads.emplace_back([&, p = plan.get()] {
            for (Py_ssize_t i; (i = next++) < count;)
                if (int failed = fc_plan_run(p, inputs + i * size, outputs + i * scores))
                    status = failed;
        });
    for (std::thread &thread : threads)
        thread.join();
    return status;
}

// scores(model, inputs, outputs, threads): two contiguous float32 buffers
PyObject *scores(PyObject *, PyObject *arguments)
{
    PyObject *model;
    Py_buffer in, out;
    int workers;
    if (!PyArg_ParseTuple(arguments, "Oy*w*i", &model, &in, &out, &workers))
        return nullptr;
    std::vector<Plan> plans;
    int status = FC_DONE;
    for (int i = 0; i < workers && status == FC_DONE; i++) {
        fc_plan *plan = nullptr;
        status = i == 0 ? fc_plan_from_model(&plan, model, 1, 1) : fc_plan_clone(&plan, plans[0].get());
        if (status == FC_DONE)
            plans.emplace_back(plan);
    }
    Py_ssize_t count = 0;
    if (status == FC_DONE && !plans.empty()) {
        const Py_ssize_t floats = sizeof(float);
        count = in.len / (floats * fc_plan_input_size(plans[0].get(), 0));
        if (out.len < count * floats * fc_plan_output_size(plans[0].get()))
            count = 0;
        Py_BEGIN_ALLOW_THREADS
        status = run_all(plans, static_cast<const float *>(in.buf), static_cast<float *>(out.buf), count);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&in);
    PyBuffer_Release(&out);
    if (status != FC_DONE)
        return PyErr_Format(PyExc_RuntimeError, "%s", fc_last_error());
    return PyLong_FromSsize_t(count);
}

PyMethodDef methods[] = {{"scores", scores, METH_VARARGS, "Run a model on C++ threads."}, {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "pool", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit_pool()
{
    if (fc_import() < 0)
        return nullptr;
    return PyModule_Create(&module);
}

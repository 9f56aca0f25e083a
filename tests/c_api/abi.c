/* A program compiled against a header of fastcnn's C API: a convolution of ones, and errors. Returns 0, or a line. */
#include <fastcnn/capi.h>

/* Of tests/failing_malloc.c, where it is preloaded: count the allocations of this thread. */
extern void arm(long, size_t) __attribute__((weak));
extern long disarm(void) __attribute__((weak));

#define CHECK(condition)                                                                                               \
    if (!(condition))                                                                                                  \
        return __LINE__;

int run_abi(void)
{
    fc_images x = {1, 2, 4, 4, 0, 0, 0};
    fc_conv2d conv = {3, {3, 3}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 1};
    float input[32], weights[54], output[12];
    const float *inputs[] = {input};
    fc_plan *plan = NULL, *copy = NULL;
    CHECK(fc_import() == 0)
    for (int i = 0; i < 54; i++)
        weights[i] = 1, input[i % 32] = 1;
    CHECK(fc_prepare_conv2d(&plan, &x, NULL, &conv, weights, NULL, NULL, 2) == FC_DONE)
    CHECK(fc_plan_clone(&copy, plan) == FC_DONE)
    fc_plan_free(plan);
    CHECK(fc_plan_input_size(copy, 0) == 32 && fc_plan_input_size(copy, 1) == -1 && fc_plan_output_size(copy) == 12)
    CHECK(fc_plan_workspace(copy) > 0)
    CHECK(fc_run(copy, inputs, output, 2) == FC_DONE)
    if (arm) {
        arm(0, 1);
        for (int i = 0; i < 100; i++)
            CHECK(fc_run(copy, inputs, output, 1 + i % 2) == FC_DONE)
        CHECK(disarm() == 0)
    }
    for (int i = 0; i < 12; i++)
        CHECK(output[i] == 18)
    fc_plan_free(copy);
    fc_plan_free(NULL);
    conv.groups = 0;
    CHECK(fc_prepare_conv2d(&plan, &x, NULL, &conv, weights, NULL, NULL, 1) == FC_BAD_ARGUMENT)
    CHECK(fc_last_error()[0] != 0 && fc_version()[0] != 0 && !PyErr_Occurred())
    return 0;
}

/* all.h: the bodies of every tile, in the vector vocabulary of the including ISA file, and its table.
 *
 * Numbers: VL is the floats of a vector. MR is the pixels of the largest convolution tile of two blocks, MR_STRIDED
 * where the distance between pixels is known only at run time. WIDE_BLOCKS is the most blocks of a tile. HALF_BLOCKS is
 * 1 where half blocks have tiles. STEPS_A_ROUND steps are unrolled, with UNROLL_TAPS all steps of a full tap.
 * WINOGRAD_PATCHES is the patches of a Winograd tile.
 *
 * Types: v_f of floats, v_i of integers and masks. Memory: V_LOAD and V_STORE (unaligned), V_SET1 (broadcasts a float),
 * V_SET2 (broadcasts two neighbouring floats of memory). Arithmetic: V_FMA (a * b + c), V_MAX and V_MIN (the second
 * operand where one is NaN), V_UNORDERED (the mask of lanes where one is NaN). Shuffles: V_ZIP_LOW and V_ZIP_HIGH
 * (interleave the lower or the upper halves), V_EVEN and V_ODD (every second float of both).
 *
 * Optional, where there is one instruction: V_SQRT, and V_SCALE (a * 2^n, n an integer). Where 32 floats can be looked
 * up: V_LOOKUP32 (those that the low five bits of each lane name) and V_ANY_BELOW (whether any lane of a is below b).
 *
 * Optional, where the compiler needs help (vector.h has the others): V_ADD_PRODUCT (sum += s * a, s a float in memory),
 * V_ADD_PRODUCTS (two sums), V_ADD_3_PRODUCTS and V_ADD_PRODUCT_OF (of two vectors). Where a multiply-add takes a lane
 * of a vector: V_FMA_LANE (c + a times a lane of x), V_FMA1 (c + s * a, s a float in memory). Other arithmetic is the
 * compiler's, on its vector types.
 */
#include "../fastcnn.h"

#include <math.h>
#include <string.h>

#define FC_JOIN2(name, isa) fc_##name##_##isa
#define FC_JOIN(name, isa) FC_JOIN2(name, isa)
#define FC_FN(name) FC_JOIN(name, FC_ISA) /* fc_matvec_avx2: the names that a profiler shows */
#define FC_TEXT2(isa) #isa
#define FC_TEXT(isa) FC_TEXT2(isa)

#include "vector.h"
#include "activation.h"
#include "interleave.h"
#include "conv_tile.h"
#include "conv_blocks.h"
#include "conv_half.h"
#include "conv_steps.h"
#include "conv_narrow.h"
#include "conv_row.h"
#include "matvec.h"
#include "depthwise.h"
#include "winograd.h"
#include "winograd_sums.h"
#include "pool_row.h"
#include "pointwise.h"
#include "lrn.h"
#include "softmax.h"
#include "attention.h"
#include "conv_grad.h"
#include "norm.h"
#include "layer_norm.h"
#include "reduce.h"
#include "gradient.h"
#include "burst.h"

fc_kernels FC_FN(kernels) = {
    .isa = FC_TEXT(FC_ISA),
    .vl = VL,
    .mr = MR,
    .wide_blocks = WIDE_BLOCKS,
    .conv_blocks = FC_FN(conv_blocks),
    .conv_steps = FC_FN(conv_steps),
    .conv_narrow = FC_FN(conv_narrow),
    .halve_weights = FC_FN(halve_weights),
    .matvec = FC_FN(matvec),
    .matvec_split = FC_FN(matvec_split),
    .depthwise = FC_FN(depthwise),
    .winograd_patches = WINOGRAD_PATCHES,
    .winograd_sums = FC_FN(winograd_sums),
    .winograd_input = {FC_FN(winograd_input2), FC_FN(winograd_input4), FC_FN(winograd_input6),
                       FC_FN(winograd_input_strided)},
    .winograd_output = {FC_FN(winograd_output2), FC_FN(winograd_output4), FC_FN(winograd_output6),
                        FC_FN(winograd_output_strided)},
    .winograd_pooled = {FC_FN(winograd_pooled2), FC_FN(winograd_pooled4), FC_FN(winograd_pooled6),
                        FC_FN(winograd_pooled_strided)},
    .pool_row = FC_FN(pool_row),
    .mean_pixels = FC_FN(mean_pixels),
    .activate = FC_FN(activate),
    .affine = FC_FN(affine),
    .binary = FC_FN(binary),
    .softmax = FC_FN(softmax),
    .softmax_columns = FC_FN(softmax_columns),
    .softmax_grad = FC_FN(softmax_grad),
    .softmax_grad_columns = FC_FN(softmax_grad_columns),
    .affine_row = FC_FN(affine_row),
    .layer_norm = FC_FN(layer_norm),
    .layer_norm_stats = FC_FN(layer_norm_stats),
    .layer_norm_grad = FC_FN(layer_norm_grad),
    .layer_norm_sums = FC_FN(layer_norm_sums),
    .reduce = FC_FN(reduce),
    .resample = FC_FN(resample),
    .lrn_row = FC_FN(lrn_row),
    .lrn_grad_row = FC_FN(lrn_grad_row),
    .interleave = FC_FN(interleave),
    .deinterleave = FC_FN(deinterleave),
    .zip_planes = FC_FN(zip_planes),
    .copy_pixels = FC_FN(copy_pixels),
    .conv_grad = FC_FN(conv_grad),
    .depthwise_grad = FC_FN(depthwise_grad),
    .pixel_sums = FC_FN(pixel_sums),
    .blend = FC_FN(blend),
    .activate_grad = FC_FN(activate_grad),
    .pool_grad_row = FC_FN(pool_grad_row),
    .winograd_filter = FC_FN(winograd_filter),
    .winograd_spread = FC_FN(winograd_spread),
    .winograd_weight = FC_FN(winograd_weight),
    .update = FC_FN(update),
    .turn = FC_FN(turn),
    .scale_pixels = FC_FN(scale_pixels),
    .softmax_strip = FC_FN(softmax_strip),
    .multiply_add_burst = FC_FN(multiply_add_burst),
};

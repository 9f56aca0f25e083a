/* all.h: the bodies of every tile of 8-bit layers, in the vocabulary of the including file, and its table.
 *
 * Numbers: VL is the integers of a vector. MR is the pixels of the largest tile of a convolution. QUAD_BYTES is the
 * bytes of packed weights for the quads of VL outputs. FLIPS is 1 where products take x - 128.
 * UNROLL_LINES rows of taps are unrolled.
 *
 * Types: v_i and v_f are vectors of VL integers and floats. v_x and v_w are inputs and weights as v_dot takes them.
 *
 * Memory: v_load_i, v_load_f, v_store_f. v_load_bytes and v_store_bytes take VL bytes, as integers of 0 to 255.
 *
 * Optional, where packing saturates: V_STORES_PIXELS, with v_store_pixels, v_store_threes, v_all_words and
 * v_all_bytes.
 *
 * Arithmetic: v_all_i and v_all_f have one number in all lanes. v_float and v_round (half to even) convert. v_max and
 * v_min give the second operand where one is NaN. v_fma. Other arithmetic is the compiler's.
 * v_b is VL bytes, with v_load_b, v_store_b and v_max_b.
 *
 * Quads: v_inputs has the same quad in all lanes. v_turned makes quads of four neighbouring pixels of VL lanes, one for
 * each lane. v_weights loads weights, which v_pack has packed. v_dot adds the products of a quad to a sum.
 * v_hide makes the compiler forget what it knows of inputs.
 */
#include "../int8.h"

#include <math.h>
#include <string.h>

#define FC_JOIN2(name, isa) fc_int8_##name##_##isa
#define FC_JOIN(name, isa) FC_JOIN2(name, isa)
#define FC_FN(name) FC_JOIN(name, FC_ISA) /* fc_int8_conv_avx2: the names that a profiler shows */
#define FC_TEXT2(isa) #isa
#define FC_TEXT(isa) FC_TEXT2(isa)

#include "finish.h"
#include "convolution.h"
#include "depthwise.h"
#include "pool.h"
#include "spans.h"
#include "planes.h"
#include "burst.h"

/* The table of this instruction set, or of one that only looks up tables in another way. */
#define FC_INT8_TABLE(text, how_to_look_up)                                                                            \
    {                                                                                                                  \
        .name = text,                                                                                                  \
        .vl = VL,                                                                                                      \
        .mr = MR,                                                                                                      \
        .quad_bytes = QUAD_BYTES,                                                                                      \
        .flips = FLIPS,                                                                                                \
        .conv = FC_FN(conv),                                                                                           \
        .depthwise = FC_FN(depthwise),                                                                                 \
        .pool = FC_FN(pool),                                                                                           \
        .add = FC_FN(add),                                                                                             \
        .multiply = FC_FN(multiply),                                                                                   \
        .look_up = how_to_look_up,                                                                                     \
        .quantize = FC_FN(quantize),                                                                                   \
        .dequantize = FC_FN(dequantize),                                                                               \
        .quantize_planes = FC_FN(quantize_planes),                                                                     \
        .dequantize_planes = FC_FN(dequantize_planes),                                                                 \
        .pack = FC_FN(pack),                                                                                           \
        .burst = FC_FN(burst),                                                                                         \
    }
fc_int8_kernels FC_FN(kernels) = FC_INT8_TABLE(FC_TEXT(FC_ISA), FC_FN(look_up));

/* int8_generic.c: tiles of 8-bit layers in plain C, for any machine. */
#include "../compiler.h"
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FC_ISA generic
#define MR 4
#define FLIPS 0
#define QUAD_BYTES 64

#include "../int8/vectors_128.h"

/* Products of bytes are floats: a quad's sum, below 2^24, is exact. Most machines have vectors of four floats, and few
 * have products of vectors of integers. */
typedef struct {
    v_f of[4]; /* [input] */
} v_x;
typedef v_x v_w;

FC_INLINE v_f v_fma(v_f a, v_f b, v_f c)
{
    return (v_f){fmaf(a[0], b[0], c[0]), fmaf(a[1], b[1], c[1]), fmaf(a[2], b[2], c[2]), fmaf(a[3], b[3], c[3])};
}

FC_INLINE v_i v_load_bytes(const uint8_t *p)
{
    return (v_i){p[0], p[1], p[2], p[3]};
}

FC_INLINE void v_store_bytes(uint8_t *p, v_i a)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)a[i];
}

#include "../int8/bytes_128.h"

FC_INLINE v_x v_inputs(const uint8_t *p)
{
    return (v_x){{v_all_f((float)p[0]), v_all_f((float)p[1]), v_all_f((float)p[2]), v_all_f((float)p[3])}};
}

FC_INLINE v_x v_turned(const uint8_t *p)
{
    return (v_x){{v_float(v_load_bytes(p)), v_float(v_load_bytes(p + 4)), v_float(v_load_bytes(p + 8)),
                  v_float(v_load_bytes(p + 12))}};
}

FC_INLINE v_w v_weights(const void *p)
{
    const float *w = p;
    return (v_w){{v_load_f(w), v_load_f(w + 4), v_load_f(w + 8), v_load_f(w + 12)}};
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    const v_f products = x.of[0] * w.of[0] + x.of[1] * w.of[1] + x.of[2] * w.of[2] + x.of[3] * w.of[3];
    return sum + __builtin_convertvector(products, v_i);
}

FC_INLINE void v_pack(const int8_t *w, void *packed)
{
    float *to = packed;
    for (int i = 0; i < 4; i++)
        for (int lane = 0; lane < 4; lane++)
            *to++ = w[4 * lane + i];
}

FC_INLINE void v_hide(v_x *x)
{
    __asm__("" : "+m"(*x));
}

#include "../int8/all.h"

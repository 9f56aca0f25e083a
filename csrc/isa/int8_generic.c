/* int8_generic.c: tiles of 8-bit layers in plain C, for any machine. */
#include "../compiler.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

#define FC_ISA generic
#define MR 4
#define FLIPS 0
#define QUAD_BYTES 16

#include "../int8/vectors_128.h"

typedef struct {
    uint8_t of[4][4]; /* [lane][input] */
} v_x;
typedef struct {
    int8_t of[4][4];
} v_w;

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

FC_INLINE v_x v_inputs(const uint8_t *p)
{
    v_x x;
    for (int lane = 0; lane < 4; lane++)
        memcpy(x.of[lane], p, 4);
    return x;
}

FC_INLINE v_x v_turned(const uint8_t *p)
{
    v_x x;
    for (int lane = 0; lane < 4; lane++)
        for (int pixel = 0; pixel < 4; pixel++)
            x.of[lane][pixel] = p[4 * pixel + lane];
    return x;
}

FC_INLINE v_w v_weights(const void *p)
{
    v_w w;
    memcpy(&w, p, sizeof w);
    return w;
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    for (int lane = 0; lane < 4; lane++)
        for (int i = 0; i < 4; i++)
            sum[lane] += x.of[lane][i] * w.of[lane][i];
    return sum;
}

FC_INLINE void v_pack(const int8_t *w, void *packed)
{
    memcpy(packed, w, QUAD_BYTES);
}

#include "../int8/all.h"

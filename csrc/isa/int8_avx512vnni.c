/* int8_avx512vnni.c: tiles of 8-bit layers in AVX-512 with VNNI: one instruction for the quads of 16 lanes. */
#if defined(__x86_64__)
#include "../compiler.h"
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__) /* takes vectors of 512 bits as they are */
FC_TARGET("avx512f,avx512bw,avx512vnni,avx2,fma")
#else
FC_TARGET("avx512f,avx512bw,avx512vnni,avx2,fma,prefer-vector-width=512")
#endif

#define FC_ISA avx512vnni
#define MR 14
#define QUAD_BYTES 64
#define UNROLL_LINES 8

#include "../int8/vectors_512.h"

typedef __m512i v_x;
typedef __m512i v_w;

FC_INLINE v_x v_inputs(const uint8_t *p)
{
    return v_quad(p);
}

FC_INLINE v_x v_turned(const uint8_t *p)
{
    return v_turned_quads(p);
}

FC_INLINE v_w v_weights(const void *p)
{
    return _mm512_loadu_si512(p);
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    return (v_i)_mm512_dpbusd_epi32((__m512i)sum, x, w);
}

FC_INLINE void v_pack(const int8_t *w, void *packed)
{
    memcpy(packed, w, QUAD_BYTES);
}

FC_INLINE void v_hide(v_x *x)
{
    __asm__("" : "+v"(*x));
}

#include "../int8/all.h"

/* With VBMI, registers hold tables of 256 bytes: see int8_avx512vbmi.c. */
void fc_int8_look_up_avx512vbmi(const uint8_t *table, const uint8_t *x, uint8_t *y, ptrdiff_t n);
fc_int8_kernels fc_int8_kernels_avx512vbmi = FC_INT8_TABLE("avx512vbmi", fc_int8_look_up_avx512vbmi);
FC_END_TARGET
#else
typedef int fc_int8_avx512vnni_is_for_x86_64;
#endif

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
#include "../int8/vnni_512.h"
#include "../int8/all.h"
FC_END_TARGET
#else
typedef int fc_int8_avx512vnni_is_for_x86_64;
#endif

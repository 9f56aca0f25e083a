/* generic.c: the vector vocabulary in the compiler's own vectors of four floats, for any machine. */
#include "../compiler.h"

#define FC_ISA generic
#define VL 4
#define MR 6
#define MR_STRIDED 6
#define WIDE_BLOCKS 4
#define HALF_BLOCKS 1
#define WINOGRAD_PATCHES 4 /* the number of AVX-512, so that every machine tests it */
#define UNROLL_TAPS 0
#define STEPS_A_ROUND 1

typedef float v_f __attribute__((vector_size(16)));
typedef int v_i __attribute__((vector_size(16)));
typedef float v_f_unaligned __attribute__((vector_size(16), aligned(4)));

#define V_LOAD(p) ((v_f) * (const v_f_unaligned *)(p))
#define V_STORE(p, v) (*(v_f_unaligned *)(p) = (v))
#define V_SET1(s) ((v_f){(s), (s), (s), (s)})
#define V_SET2(p) ((v_f){(p)[0], (p)[1], (p)[0], (p)[1]})
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define V_MAX(a, b) v_select((a) > (b), (a), (b))
#define V_MIN(a, b) v_select((a) < (b), (a), (b))
#define V_UNORDERED(a, b) (((a) != (a)) | ((b) != (b)))
#define V_ZIP_LOW(a, b) V_SHUFFLE((a), (b), 0, 4, 1, 5)
#define V_ZIP_HIGH(a, b) V_SHUFFLE((a), (b), 2, 6, 3, 7)
#define V_EVEN(a, b) V_SHUFFLE((a), (b), 0, 2, 4, 6)
#define V_ODD(a, b) V_SHUFFLE((a), (b), 1, 3, 5, 7)

#include "../tiles/all.h"

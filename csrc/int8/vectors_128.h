/* vectors_128.h: vectors of four numbers as the compiler has them on any machine. Roundings are those of IEEE 754,
 * which no instruction may change: v_fma is the C library's. */
#define VL 4
#define UNROLL_LINES 1

typedef int v_i __attribute__((vector_size(16)));
typedef float v_f __attribute__((vector_size(16)));

FC_INLINE v_i v_load_i(const int32_t *p)
{
    v_i a;
    memcpy(&a, p, sizeof a);
    return a;
}

FC_INLINE v_i v_all_i(int a)
{
    return (v_i){a, a, a, a};
}

FC_INLINE v_f v_load_f(const float *p)
{
    v_f a;
    memcpy(&a, p, sizeof a);
    return a;
}

FC_INLINE void v_store_f(float *p, v_f a)
{
    memcpy(p, &a, sizeof a);
}

FC_INLINE v_f v_all_f(float a)
{
    return (v_f){a, a, a, a};
}

FC_INLINE v_f v_float(v_i a)
{
    return __builtin_convertvector(a, v_f);
}

/* Half to even, for numbers below 2^22: where it is added to them, the unit in the last place of this number is 1. */
FC_INLINE v_i v_round(v_f a)
{
    const v_f large = v_all_f(12582912.0f);
    return (v_i)(a + large) - (v_i)large;
}

FC_INLINE v_f v_select(v_i mask, v_f a, v_f b)
{
    return (v_f)((mask & (v_i)a) | (~mask & (v_i)b));
}

FC_INLINE v_f v_max(v_f a, v_f b)
{
    return v_select((v_i)(a > b), a, b);
}

FC_INLINE v_f v_min(v_f a, v_f b)
{
    return v_select((v_i)(a < b), a, b);
}

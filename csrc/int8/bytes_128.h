/* bytes_128.h: four bytes as integers, for tables whose vectors have as many. */
typedef v_i v_b;

FC_INLINE v_b v_load_b(const uint8_t *p)
{
    return v_load_bytes(p);
}

FC_INLINE void v_store_b(uint8_t *p, v_b a)
{
    v_store_bytes(p, a);
}

FC_INLINE v_b v_max_b(v_b a, v_b b)
{
    const v_i mask = a > b;
    return (mask & a) | (~mask & b);
}

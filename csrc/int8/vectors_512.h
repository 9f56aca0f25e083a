/* vectors_512.h: what the tables of AVX-512 share. */
#define VL 16
#define FLIPS 0

typedef int v_i __attribute__((vector_size(64)));
typedef __m512 v_f;

FC_INLINE v_i v_load_i(const int32_t *p)
{
    return (v_i)_mm512_loadu_si512(p);
}

FC_INLINE v_i v_all_i(int a)
{
    return (v_i)_mm512_set1_epi32(a);
}

FC_INLINE v_f v_load_f(const float *p)
{
    return _mm512_loadu_ps(p);
}

FC_INLINE void v_store_f(float *p, v_f a)
{
    _mm512_storeu_ps(p, a);
}

FC_INLINE v_f v_all_f(float a)
{
    return _mm512_set1_ps(a);
}

FC_INLINE v_f v_float(v_i a)
{
    return _mm512_cvtepi32_ps((__m512i)a);
}

FC_INLINE v_i v_round(v_f a)
{
    return (v_i)_mm512_cvtps_epi32(a);
}

FC_INLINE v_f v_fma(v_f a, v_f b, v_f c)
{
    return _mm512_fmadd_ps(a, b, c);
}

FC_INLINE v_f v_max(v_f a, v_f b)
{
    return _mm512_max_ps(a, b);
}

FC_INLINE v_f v_min(v_f a, v_f b)
{
    return _mm512_min_ps(a, b);
}

FC_INLINE v_i v_load_bytes(const uint8_t *p)
{
    return (v_i)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}

FC_INLINE void v_store_bytes(uint8_t *p, v_i a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)a));
}

/* Stores the first 3 or 4 of four neighbouring pixels, from integers: clip(a + zero, low, high), where `zero` has
 * words, and bounds have bytes. Packing saturates. It leaves the pixels' quarters side by side. */
#define V_STORES_PIXELS
FC_INLINE void v_store_pixels(uint8_t *p, const v_i a[4], v_i zero, v_i low, v_i high, const int n)
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)a[0], (__m512i)a[1]), (__m512i)zero);
    const __m512i second = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)a[2], (__m512i)a[3]), (__m512i)zero);
    const __m512i clipped = _mm512_max_epu8(_mm512_packus_epi16(first, second), (__m512i)low);
    const __m512i bytes = _mm512_min_epu8(clipped, (__m512i)high);
    const __m512i pixels = _mm512_permutexvar_epi32(order, bytes);
    if (n == 4) {
        _mm512_storeu_si512(p, pixels);
        return;
    }
    _mm256_storeu_si256((__m256i *)p, _mm512_castsi512_si256(pixels));
    _mm_storeu_si128((__m128i *)p + 2, _mm512_extracti32x4_epi32(pixels, 2));
}

/* Stores the first three bytes of each integer. */
FC_INLINE void v_store_threes(uint8_t *p, v_i a)
{
    const __m512i bytes = _mm512_set4_epi32(-1, 0x0E0D0C0A, 0x09080605, 0x04020100);
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 13, 12, 10, 9, 8, 6, 5, 4, 2, 1, 0);
    const __m512i threes = _mm512_permutexvar_epi32(order, _mm512_shuffle_epi8((__m512i)a, bytes));
    _mm256_storeu_si256((__m256i *)p, _mm512_castsi512_si256(threes));
    _mm_storeu_si128((__m128i *)p + 2, _mm512_extracti32x4_epi32(threes, 2));
}

FC_INLINE v_i v_all_words(int a)
{
    return (v_i)_mm512_set1_epi16((short)a);
}

FC_INLINE v_i v_all_bytes(int a)
{
    return (v_i)_mm512_set1_epi8((char)a);
}

typedef __m128i v_b;

FC_INLINE v_b v_load_b(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

FC_INLINE void v_store_b(uint8_t *p, v_b a)
{
    _mm_storeu_si128((__m128i *)p, a);
}

FC_INLINE v_b v_max_b(v_b a, v_b b)
{
    return _mm_max_epu8(a, b);
}

/* The four bytes at p, in all lanes. */
FC_INLINE __m512i v_quad(const uint8_t *p)
{
    int quad;
    memcpy(&quad, p, sizeof quad);
    return _mm512_set1_epi32(quad);
}

/* The quads of four pixels: first the four bytes of each pixel that belong to a quarter of the lanes, then of them the
 * four bytes of each lane. */
FC_INLINE __m512i v_turned_quads(const uint8_t *p)
{
    const __m512i quarters = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i lanes = _mm512_set4_epi32(0x0F0B0703, 0x0E0A0602, 0x0D090501, 0x0C080400);
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, _mm512_loadu_si512(p)), lanes);
}

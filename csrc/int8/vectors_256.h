/* vectors_256.h: what the tables of AVX2 share. */
#define VL 8
#define FLIPS 0
#define UNROLL_LINES 1

typedef int v_i __attribute__((vector_size(32)));
typedef __m256 v_f;

FC_INLINE v_i v_load_i(const int32_t *p)
{
    return (v_i)_mm256_loadu_si256((const __m256i *)p);
}

FC_INLINE v_i v_all_i(int a)
{
    return (v_i)_mm256_set1_epi32(a);
}

FC_INLINE v_f v_load_f(const float *p)
{
    return _mm256_loadu_ps(p);
}

FC_INLINE void v_store_f(float *p, v_f a)
{
    _mm256_storeu_ps(p, a);
}

FC_INLINE v_f v_all_f(float a)
{
    return _mm256_set1_ps(a);
}

FC_INLINE v_f v_float(v_i a)
{
    return _mm256_cvtepi32_ps((__m256i)a);
}

FC_INLINE v_i v_round(v_f a)
{
    return (v_i)_mm256_cvtps_epi32(a);
}

FC_INLINE v_f v_fma(v_f a, v_f b, v_f c)
{
    return _mm256_fmadd_ps(a, b, c);
}

FC_INLINE v_f v_max(v_f a, v_f b)
{
    return _mm256_max_ps(a, b);
}

FC_INLINE v_f v_min(v_f a, v_f b)
{
    return _mm256_min_ps(a, b);
}

FC_INLINE v_i v_load_bytes(const uint8_t *p)
{
    return (v_i)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

FC_INLINE void v_store_bytes(uint8_t *p, v_i a)
{
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)a), _mm256_extracti128_si256((__m256i)a, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}

/* Stores the first 3 or 4 of four neighbouring pixels, from integers: clip(a + zero, low, high), where `zero` has
 * words, and bounds have bytes. Packing saturates. It leaves the pixels' halves side by side. */
#define V_STORES_PIXELS
FC_INLINE void v_store_pixels(uint8_t *p, const v_i a[4], v_i zero, v_i low, v_i high, const int n)
{
    const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    const __m256i first = _mm256_adds_epi16(_mm256_packs_epi32((__m256i)a[0], (__m256i)a[1]), (__m256i)zero);
    const __m256i second = _mm256_adds_epi16(_mm256_packs_epi32((__m256i)a[2], (__m256i)a[3]), (__m256i)zero);
    const __m256i clipped = _mm256_max_epu8(_mm256_packus_epi16(first, second), (__m256i)low);
    const __m256i bytes = _mm256_min_epu8(clipped, (__m256i)high);
    const __m256i pixels = _mm256_permutevar8x32_epi32(bytes, order);
    if (n == 4) {
        _mm256_storeu_si256((__m256i *)p, pixels);
        return;
    }
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(pixels));
    _mm_storel_epi64((__m128i *)p + 1, _mm256_extracti128_si256(pixels, 1));
}

/* Stores the first three bytes of each integer. */
FC_INLINE void v_store_threes(uint8_t *p, v_i a)
{
    const __m256i bytes =
        _mm256_set_epi32(-1, 0x0E0D0C0A, 0x09080605, 0x04020100, -1, 0x0E0D0C0A, 0x09080605, 0x04020100);
    const __m256i order = _mm256_set_epi32(7, 3, 6, 5, 4, 2, 1, 0);
    const __m256i threes = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8((__m256i)a, bytes), order);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(threes));
    _mm_storel_epi64((__m128i *)p + 1, _mm256_extracti128_si256(threes, 1));
}

FC_INLINE v_i v_all_words(int a)
{
    return (v_i)_mm256_set1_epi16((short)a);
}

FC_INLINE v_i v_all_bytes(int a)
{
    return (v_i)_mm256_set1_epi8((char)a);
}

typedef __m128i v_b;

FC_INLINE v_b v_load_b(const uint8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)p);
}

FC_INLINE void v_store_b(uint8_t *p, v_b a)
{
    _mm_storel_epi64((__m128i *)p, a);
}

FC_INLINE v_b v_max_b(v_b a, v_b b)
{
    return _mm_max_epu8(a, b);
}

/* The four bytes at p, in all lanes. */
FC_INLINE __m256i v_quad(const uint8_t *p)
{
    int quad;
    memcpy(&quad, p, sizeof quad);
    return _mm256_set1_epi32(quad);
}

/* The quads of four pixels: first the four bytes of each pixel that belong to a half of the lanes, then of them the
 * four bytes of each lane. */
FC_INLINE __m256i v_turned_quads(const uint8_t *p)
{
    const __m256i halves = _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0);
    const __m256i lanes = _mm256_set_epi32(0x0F0B0703, 0x0E0A0602, 0x0D090501, 0x0C080400, 0x0F0B0703, 0x0E0A0602,
                                           0x0D090501, 0x0C080400);
    return _mm256_shuffle_epi8(_mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)p), halves), lanes);
}

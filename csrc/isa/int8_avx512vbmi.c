/* int8_avx512vbmi.c: tables of 256 bytes in AVX-512 with VBMI, whose registers hold them. All other tiles, and the
 * table of functions, are those of int8_avx512vnni.c. */
#if defined(__x86_64__)
#include "../compiler.h"
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
FC_TARGET("avx512f,avx512bw,avx512vbmi,avx2,fma")

/* An instruction looks up the low seven bits of each byte in two registers. The eighth bit decides between two pairs.
 */
FC_INLINE __m512i entries_of(const __m512i table[4], __m512i x)
{
    const __m512i low = _mm512_permutex2var_epi8(table[0], x, table[1]);
    const __m512i high = _mm512_permutex2var_epi8(table[2], x, table[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
}

void fc_int8_look_up_avx512vbmi(const uint8_t *table, const uint8_t *x, uint8_t *y, ptrdiff_t n)
{
    const __m512i entries[4] = {_mm512_loadu_si512(table), _mm512_loadu_si512(table + 64),
                                _mm512_loadu_si512(table + 128), _mm512_loadu_si512(table + 192)};
    ptrdiff_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(y + i, entries_of(entries, _mm512_loadu_si512(x + i)));
    for (; i + 16 <= n; i += 16) {
        const __m128i some = _mm_loadu_si128((const __m128i *)(x + i));
        _mm_storeu_si128((__m128i *)(y + i), _mm512_castsi512_si128(entries_of(entries, _mm512_castsi128_si512(some))));
    }
    for (; i < n; i++)
        y[i] = table[x[i]];
}
FC_END_TARGET
#else
typedef int fc_int8_avx512vbmi_is_for_x86_64;
#endif

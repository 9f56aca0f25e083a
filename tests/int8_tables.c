/* int8_tables.c: every tile of bytes of every table that a machine runs, against its definition. It needs no Python,
 * and therefore runs where only an emulator does: see tests/kernels/test_int8_emulated.py. */
#include "int8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBLEMS = 60, MOST = 1 << 16 };

static unsigned long long state = 1;

static int draw(int low, int high)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return low + (int)((state >> 33) % (unsigned long long)(high - low + 1));
}

static float real(float most)
{
    return most * (float)draw(0, 1 << 20) / (1 << 20);
}

static uint8_t x[MOST], b[MOST], found[4 * MOST], expected[4 * MOST], table[256];
static int8_t w[MOST];
static char packed[8 * MOST];
static int32_t bias[64];
static float scale[64], floats[MOST];

static void check(const fc_int8_kernels *k, const char *tile, size_t bytes)
{
    if (memcmp(found, expected, bytes) == 0)
        return;
    size_t i = 0;
    while (found[i] == expected[i])
        i++;
    printf("%s of %s: byte %zu of %zu is %d, expected %d\n", tile, k->name, i, bytes, found[i], expected[i]);
    exit(1);
}

static void fill(const fc_int8_kernels *k)
{
    for (int i = 0; i < MOST; i++) {
        x[i] = (uint8_t)draw(0, 255), b[i] = (uint8_t)draw(0, 255);
        w[i] = (int8_t)draw(-128, 127);
        floats[i] = (float)draw(-700, 700) * 0.25f;
    }
    for (int i = 0; i < 64; i++)
        bias[i] = draw(-5000, 5000), scale[i] = draw(0, 1) ? 0x1p-8f : real(0.01f);
    for (int i = 0; i < 256; i++)
        table[i] = (uint8_t)draw(0, 255);
    memset(found, 0, sizeof found);
    memset(expected, 0, sizeof expected);
    k->pack(w, packed, MOST / (4 * k->vl));
}

static fc_int8_finish some_finish(const fc_int8_kernels *k)
{
    const int zero = draw(0, 255), low = draw(0, 128), high = draw(128, 255), least = draw(-255, 0);
    return (fc_int8_finish){
        .table = draw(0, 3) ? NULL : table,
        .look_up = k->look_up,
        .residual_scale = real(2),
        .rounds = draw(0, 1),
        .own_scale = real(2),
        .least = (float)least,
        .most = (float)(least + 255),
        .low = (float)(low - zero),
        .high = (float)(high - zero),
        .zero = zero,
        .residual_zero = draw(0, 255),
        .floats = draw(0, 3) == 0,
        .bounded = draw(0, 3) > 0,
        .lanes = k->vl,
    };
}

/* Stores output `at` from its number. */
static void put(const fc_int8_finish *f, float t, ptrdiff_t at)
{
    if (f->floats) {
        memcpy(expected + 4 * at, &t, 4);
        return;
    }
    t = t > f->low ? t : f->low;
    const int byte = (int)rintf(t < f->high ? t : f->high) + f->zero;
    expected[at] = f->table ? f->table[byte] : (uint8_t)byte;
}

static float with_residual(const fc_int8_finish *f, float t, const uint8_t *residual, ptrdiff_t at)
{
    if (!residual)
        return t;
    const float added = (float)(residual[at] - f->residual_zero);
    if (!f->rounds)
        return fmaf(added, f->residual_scale, t);
    t = t > f->least ? t : f->least;
    return fmaf(rintf(t < f->most ? t : f->most), f->own_scale, added * f->residual_scale);
}

/* What a table whose products take x - 128 adds to the bias of lane o. */
static int makes_up(const fc_int8_kernels *k, ptrdiff_t quads, ptrdiff_t each, ptrdiff_t o)
{
    int sum = 0;
    for (ptrdiff_t q = 0; q < quads; q++)
        for (int i = 0; i < 4; i++)
            sum += w[((q * each + o / k->vl) * k->vl + o % k->vl) * 4 + i];
    return k->flips ? 128 * sum : 0;
}

static void try_conv(const fc_int8_kernels *k)
{
    const int vl = k->vl, blocks = draw(1, 2), full = draw(0, 6), partial = full ? draw(0, 3) : draw(1, 3);
    const int partial_quads = draw(1, 3), pixels = draw(1, 2 * k->mr + 3), x_pixel = vl * draw(1, 3);
    const ptrdiff_t quads = full * (vl / 4) + partial * partial_quads;
    ptrdiff_t taps[9];
    int32_t start[32];
    for (int t = 0; t < full + partial; t++)
        taps[t] = draw(0, 999);
    fc_int8_conv r = {
        .x = x,
        .taps = taps,
        .w = packed,
        .bias = start,
        .scale = scale,
        .y = found,
        .full_taps = full,
        .partial_taps = partial,
        .partial_quads = partial_quads,
        .pixels = pixels,
        .x_pixel = x_pixel,
        .y_pixel = vl,
        .residual_pixel = vl,
        .y_block = vl * pixels,
        .residual_block = vl * pixels,
        .blocks = blocks,
        .ahead = packed,
        .ahead_bytes = 64 * draw(0, 2),
        .finish = some_finish(k),
    };
    r.residual = draw(0, 1) && !r.finish.floats ? b : NULL;
    r.finish.lanes = draw(0, 1) ? vl : draw(1, vl);
    for (int o = 0; o < blocks * vl; o++)
        start[o] = bias[o] + makes_up(k, quads, blocks, o);
    for (int o = 0; o < (blocks - 1) * vl + r.finish.lanes; o++)
        for (int p = 0; p < pixels; p++) {
            int sum = bias[o];
            ptrdiff_t q = 0;
            for (int t = 0; t < full + partial; t++)
                for (int i = 0; i < (t < full ? vl / 4 : partial_quads); i++, q++)
                    for (int j = 0; j < 4; j++)
                        sum += x[taps[t] + p * x_pixel + 4 * i + j] * w[((q * blocks + o / vl) * vl + o % vl) * 4 + j];
            const ptrdiff_t at = o / vl * vl * pixels + p * vl + o % vl;
            put(&r.finish, with_residual(&r.finish, (float)sum * scale[o], r.residual, at), at);
        }
    k->conv(&r);
    check(k, "conv", (size_t)(blocks * pixels * vl * 4));
}

static void try_depthwise(const fc_int8_kernels *k)
{
    const int vl = k->vl, kh = draw(1, 5), kw = draw(1, 7), stride = draw(1, 3), rows = draw(1, 3), pixels = draw(1, 9);
    const int outputs = fc_int8_outputs(kw, stride), by_rows = outputs > 0;
    const int width = (pixels - 1) * stride + kw, each = fc_int8_quads(kw);
    const ptrdiff_t quads = by_rows ? kh * outputs * each : (kh * kw + 3) / 4;
    int8_t filter[16][5][7];
    int32_t start[16];
    memset(w, 0, sizeof w);
    for (int o = 0; o < vl; o++) {
        start[o] = bias[o];
        for (int ky = 0; ky < kh; ky++)
            for (int kx = 0; kx < kw; kx++) {
                const int8_t weight = (int8_t)draw(-128, 127);
                const int tap = ky * kw + kx;
                filter[o][ky][kx] = weight;
                start[o] += k->flips ? 128 * weight : 0;
                for (int g = 0; g < outputs; g++) {
                    const int at = kx + g * stride;
                    w[((((ky * outputs + g) * each + at / 4) * vl) + o) * 4 + at % 4] = weight;
                }
                if (!by_rows)
                    w[(tap / 4 * vl + o) * 4 + tap % 4] = weight;
            }
    }
    k->pack(w, packed, quads);
    fc_int8_depthwise r = {
        .x = x,
        .x_end = x + ((rows + kh - 1) * width) * vl,
        .w = packed,
        .bias = start,
        .scale = scale,
        .y = found,
        .x_row = width * vl,
        .x_col = vl,
        .stride = stride,
        .x_step = width * vl,
        .y_row = pixels * vl,
        .residual_row = pixels * vl,
        .kh = kh,
        .kw = kw,
        .rows = rows,
        .pixels = pixels,
        .by_rows = by_rows,
        .finish = some_finish(k),
    };
    r.residual = draw(0, 1) && !r.finish.floats ? b : NULL;
    for (int row = 0; row < rows; row++)
        for (int p = 0; p < pixels; p++)
            for (int o = 0; o < vl; o++) {
                int sum = bias[o];
                for (int ky = 0; ky < kh; ky++)
                    for (int kx = 0; kx < kw; kx++)
                        sum += x[((row + ky) * width + p * stride + kx) * vl + o] * filter[o][ky][kx];
                const ptrdiff_t at = (row * pixels + p) * vl + o;
                put(&r.finish, with_residual(&r.finish, (float)sum * scale[o], r.residual, at), at);
            }
    k->depthwise(&r);
    check(k, "depthwise", (size_t)(rows * pixels * vl * 4));
}

static void try_pool(const fc_int8_kernels *k)
{
    const int vl = k->vl, rows = draw(1, 3), kw = draw(1, 4), stride = draw(1, 3), dilation = draw(1, 2);
    const int left = draw(0, kw - 1), right = draw(0, kw - 1), width = draw(1, 20) + (kw - 1) * dilation;
    const int pixels = (width + left + right - (kw - 1) * dilation - 1) / stride + 1;
    fc_int8_pool r = {
        .x = x,
        .y = found,
        .x_row = width * vl,
        .rows = rows,
        .row_extent = rows,
        .width = width,
        .pad_left = left,
        .pad_right = right,
        .kw = kw,
        .stride = stride,
        .dilation = dilation,
        .pixels = pixels,
        .average = draw(0, 1),
        .count_include_pad = draw(0, 1),
        .x_zero = draw(0, 255),
        .scale = real(2),
        .finish = some_finish(k),
    };
    r.finish.floats &= r.average;
    for (int p = 0; p < pixels; p++)
        for (int o = 0; o < vl; o++) {
            int sum = 0, most = 0, inside = 0, counted = 0;
            for (int tap = 0; tap < kw; tap++) {
                const int at = p * stride - left + tap * dilation;
                counted += at < width + right && (r.count_include_pad || (at >= 0 && at < width));
                for (int row = 0; row < rows && at >= 0 && at < width; row++, inside++) {
                    const int value = x[(row * width + at) * vl + o];
                    sum += value, most = value > most ? value : most;
                }
            }
            if (r.average)
                put(&r.finish, (float)(sum - inside * r.x_zero) * (r.scale / (float)(counted * rows)), p * vl + o);
            else
                expected[p * vl + o] = (uint8_t)most;
        }
    k->pool(&r);
    check(k, "pool", (size_t)(pixels * vl * 4));
}

static void try_binary(const fc_int8_kernels *k)
{
    const int n = draw(1, 99), multiply = draw(0, 1);
    fc_int8_binary how = {
        .a_scale = real(multiply ? 0.01f : 2),
        .b_scale = real(2),
        .a_zero = draw(0, 255),
        .b_zero = draw(0, 255),
        .one_pixel = draw(0, 1),
        .finish = some_finish(k),
    };
    for (int i = 0; i < n; i++) {
        const int left = x[i] - how.a_zero, right = b[how.one_pixel ? i % k->vl : i] - how.b_zero;
        put(&how.finish,
            multiply ? (float)(left * right) * how.a_scale : fmaf((float)left, how.a_scale, (float)right * how.b_scale),
            i);
    }
    (multiply ? k->multiply : k->add)(&how, x, b, found, n);
    check(k, multiply ? "multiply" : "add", (size_t)(4 * n));
}

static uint8_t quantum(float value, float by, int zero)
{
    const float t = value / by, low = (float)-zero, high = (float)(255 - zero);
    return (uint8_t)((int)rintf(t > low ? t < high ? t : high : low) + zero);
}

static void try_types(const fc_int8_kernels *k)
{
    const int n = draw(1, 99), zero = draw(0, 255), channels = draw(1, 4), pixel = draw(0, 1) ? 4 : k->vl,
              dense = draw(1, 4);
    const float by = draw(0, 1) ? 0.5f : real(1) + 0.001f;
    for (int i = 0; i < n; i++)
        expected[i] = quantum(floats[i], by, zero);
    k->quantize(floats, found, n, by, zero);
    check(k, "quantize", (size_t)n);
    for (int i = 0; i < n; i++)
        expected[i] = table[x[i]];
    k->look_up(table, x, found, n);
    check(k, "look_up", (size_t)n);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 4; c++)
            expected[i * pixel + c] = c < channels ? quantum(floats[c * n + i], by, zero) : 0;
    for (int i = 0; i < n * pixel; i++)
        if (i % pixel > 3)
            expected[i] = found[i];
    k->quantize_planes(floats, n, found, pixel, channels, n, by, zero);
    check(k, "quantize_planes", (size_t)(n * pixel));
    for (int i = 0; i < n * dense; i++)
        expected[i] = quantum(floats[i % dense * n + i / dense], by, zero);
    expected[n * dense] = found[n * dense] = 77;
    k->quantize_planes(floats, n, found, dense, dense, n, by, zero);
    check(k, "dense quantize_planes", (size_t)(n * dense + 1));
    float *y = (float *)(void *)expected;
    for (int i = 0; i < n; i++)
        y[i] = (float)(x[i] - zero) * by;
    k->dequantize(x, (float *)(void *)found, n, by, zero);
    check(k, "dequantize", (size_t)(4 * n));
    for (int i = 0; i < n; i++)
        for (int c = 0; c < channels; c++)
            y[c * n + i] = (float)(x[i * pixel + c] - zero) * by;
    k->dequantize_planes(x, pixel, (float *)(void *)found, n, channels, n, by, zero);
    check(k, "dequantize_planes", (size_t)(4 * n * channels));
}

int main(void)
{
    for (const fc_int8_kernels *const *k = fc_all_int8_kernels(); *k; k++) {
        int32_t sink;
        if (!(*k)->available)
            continue;
        for (int problem = 0; problem < PROBLEMS; problem++) {
            void (*const tries[])(const fc_int8_kernels *) = {try_conv, try_depthwise, try_pool, try_binary, try_types};
            for (int i = 0; i < 5; i++) {
                fill(*k);
                tries[i](*k);
            }
        }
        printf("%s %d\n", (*k)->name, (*k)->burst(3, &sink) > 0);
    }
    return 0;
}

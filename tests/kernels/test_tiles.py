"""Every tile of every instruction set against its definition and against the generic one, on odd sizes.

A new tile needs an entry in TILES: its field, how to draw a problem of a size, how to call the tile with it, and the
definition of the result. Draws know nothing of the instruction set: all solve the same problems. `--benchmark` tells
how long a call of each tile takes.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import c_header
import numpy as np
import pytest
from kernels import tiles_of_attention as attention
from kernels import tiles_of_norms as norms
from kernels import tiles_of_rows as rows
from kernels import tiles_of_spans as spans
from kernels import tiles_of_windows as windows
from kernels import tiles_of_winograd as winograd
from kernels.workshop import Workshop

from fastcnn import reference
from fastcnn.kernels import _cpu

SIZES = (1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 67)
LARGE = 97  # of benchmarks
LEAST_SECONDS = 0.02
REPEATS = 10


@dataclass(frozen=True)
class Tile:
    field: str
    draw: Callable[[np.random.Generator, int], Any]
    call: Callable[[Workshop, Any], np.ndarray]
    define: Callable[[Any], np.ndarray]
    close: float = 0.0  # how far a result may lie from its definition, where sums and products are not exact
    variant: str = ""  # of the field's problems

    def __str__(self) -> str:
        return "-".join(filter(None, (self.field, self.variant)))


TILES = [
    Tile("conv_blocks", rows.draw_blocks, rows.call_blocks, rows.define_row),
    Tile("conv_blocks", rows.draw_half, rows.call_half, rows.define_row, variant="half"),
    Tile("conv_blocks", rows.draw_dense, rows.call_dense, rows.define_row, variant="dense"),
    Tile("conv_steps", rows.draw_steps, rows.call_steps, rows.define_row),
    Tile("conv_narrow", rows.draw_narrow, rows.call_narrow, rows.define_row),
    Tile("halve_weights", rows.draw_halves, rows.call_halves, rows.define_halves),
    Tile("matvec", windows.draw_matvec, windows.call_matvec, windows.define_matvec),
    Tile("matvec_split", windows.draw_matvec_split, windows.call_matvec_split, windows.define_matvec),
    Tile("depthwise", windows.draw_depthwise, windows.call_depthwise, windows.define_depthwise),
    Tile("winograd_sums", winograd.draw_winograd_sums, winograd.call_winograd_sums, winograd.define_winograd_sums),
    Tile("winograd_input", winograd.draw_input, winograd.call_input, winograd.define_input, close=1e-5),
    Tile("winograd_output", winograd.draw_output, winograd.call_output, winograd.define_output, close=1e-5),
    Tile("winograd_pooled", winograd.draw_output, winograd.call_pooled, winograd.define_pooled, close=1e-5),
    Tile("winograd_filter", winograd.draw_filter, winograd.call_filter, winograd.define_filter, close=1e-5),
    Tile("winograd_spread", winograd.draw_spread, winograd.call_spread, winograd.define_spread, close=1e-5),
    Tile("winograd_weight", winograd.draw_weight, winograd.call_weight, winograd.define_weight, close=1e-5),
    Tile("pool_row", windows.draw_pool, windows.call_pool, windows.define_pool),
    Tile("pool_grad_row", windows.draw_pool, windows.call_pool_grad, windows.define_pool_grad, close=1e-6),
    Tile("mean_pixels", windows.draw_mean, windows.call_mean, windows.define_mean),
    Tile("conv_grad", windows.draw_conv_grad, windows.call_conv_grad, windows.define_conv_grad),
    Tile("depthwise_grad", windows.draw_depthwise, windows.call_depthwise_grad, windows.define_depthwise_grad),
    Tile("activate", spans.draw_activate, spans.call_activate, lambda p: spans.act(p.name, p.x), close=1e-6),
    Tile("activate_grad", spans.draw_activate_grad, spans.call_activate_grad,
         lambda p: spans.act_grad(p.name, p.g, p.x), close=2e-6),
    Tile("affine", spans.draw_affine, spans.call_affine, spans.define_affine),
    Tile("binary", spans.draw_binary, spans.call_binary, spans.define_binary),
    Tile("softmax", spans.draw_softmax, spans.call_softmax, lambda p: reference.softmax(p.x), close=1e-6),
    Tile("softmax_columns", norms.draw_columns, norms.call_columns, lambda p: reference.softmax(p.x, 0), close=1e-6),
    Tile("softmax_grad", norms.draw_columns, norms.call_row_grad, lambda p: reference.softmax_grad(p.g[0], p.v[0]),
         close=1e-6),
    Tile("softmax_grad_columns", norms.draw_columns, norms.call_columns_grad,
         lambda p: reference.softmax_grad(p.g, p.v, 0), close=1e-6),
    Tile("affine_row", norms.draw_affine_row, norms.call_affine_row, norms.define_affine_row),
    Tile("layer_norm", norms.draw_norm, norms.call_norm, norms.define_norm, close=1e-6),
    Tile("layer_norm_stats", norms.draw_norm, norms.call_norm_stats, norms.define_norm_stats, close=1e-6),
    Tile("layer_norm_grad", norms.draw_norm, norms.call_norm_grad, norms.define_norm_grad, close=2e-6),
    Tile("layer_norm_sums", norms.draw_norm, norms.call_norm_sums, norms.define_norm_sums, close=2e-6),
    Tile("reduce", norms.draw_reduce, norms.call_reduce, norms.define_reduce),
    Tile("resample", norms.draw_resample, norms.call_resample, norms.define_resample),
    Tile("lrn_row", spans.draw_lrn, spans.call_lrn, spans.define_lrn, close=1e-6),
    Tile("lrn_grad_row", spans.draw_lrn, spans.call_lrn_grad, spans.define_lrn_grad, close=1e-5),
    Tile("interleave", spans.draw_planes, spans.call_interleave, spans.define_interleave),
    Tile("deinterleave", spans.draw_planes, spans.call_deinterleave, spans.define_deinterleave),
    Tile("zip_planes", spans.draw_zip, spans.call_zip, lambda p: p.x),
    Tile("copy_pixels", spans.draw_copy, spans.call_copy, spans.define_copy),
    Tile("pixel_sums", spans.draw_sums, spans.call_sums, spans.define_sums),
    Tile("blend", spans.draw_blend, spans.call_blend, spans.define_blend),
    Tile("update", spans.draw_update, spans.call_update, spans.define_update, close=1e-5),
    Tile("turn", attention.draw_turn, attention.call_turn, attention.define_turn),
    Tile("scale_pixels", attention.draw_scaled, attention.call_scaled, attention.define_scaled),
    Tile("softmax_strip", attention.draw_softmax, attention.call_softmax, attention.define_softmax, close=2e-6),
    Tile("multiply_add_burst", spans.draw_burst, spans.call_burst, spans.define_burst, close=1e-5),
]  # fmt: skip


def problems(tile: Tile, seeds: int):
    for size in SIZES:
        for seed in range(seeds):
            rng = np.random.default_rng([size, seed, zlib.crc32(str(tile).encode())])
            yield f"size {size}, seed {seed}", tile.draw(rng, size)


def nanoseconds(calls) -> float:
    """For one of some calls, without what ctypes takes: the least of several rounds."""
    least = np.inf
    begin = time.perf_counter()
    while time.perf_counter() - begin < LEAST_SECONDS:
        start = time.perf_counter()
        for _ in range(REPEATS):
            for function, arguments in calls:
                function(*arguments)
        least = min(least, time.perf_counter() - start)
    return least / (REPEATS * len(calls)) * 1e9


def time_of(tile: Tile, table) -> float:
    shop, idle = Workshop(table, False), Workshop(table, False)
    tile.call(shop, tile.draw(np.random.default_rng(zlib.crc32(str(tile).encode())), LARGE))
    idle.call("activate", idle.activation("none"), None, None, 0)
    return nanoseconds(shop.calls) - nanoseconds(idle.calls)


def assert_same(y: np.ndarray, expected: np.ndarray, close: float, of: str) -> None:
    assert y.shape == expected.shape, of
    np.testing.assert_allclose(y, expected, rtol=close, atol=4 * close, equal_nan=True, err_msg=of)


@pytest.mark.parametrize("name", _cpu.available_isas())
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tile_is_as_defined_and_as_the_generic_one(tile, name, budget, request, capsys):
    table, generic = c_header.table_of(name), c_header.table_of("generic")
    for number, (told, problem) in enumerate(problems(tile, budget(4, 60))):
        first = bool(number % 2)
        expected = np.asarray(tile.define(problem), np.float32)
        y = tile.call(Workshop(table, first), problem)
        assert_same(y, expected, tile.close, f"{tile}, {name}, {told}")
        if name != "generic":
            beside = tile.call(Workshop(generic, first), problem)
            assert_same(y, beside, tile.close, f"{tile}, {name} beside generic, {told}")
    if request.config.getoption("--benchmark"):
        with capsys.disabled():
            print(f"\n{tile!s:22} {name:8} {time_of(tile, table):10.0f} ns a call")


def test_every_tile_has_an_entry():
    assert c_header.tile_fields().keys() == {tile.field for tile in TILES}


def test_structs_are_those_of_the_compiler(tmp_path):
    """Sizes and offsets that ctypes finds are those of C."""
    offsets = [(name, field) for name, kind in c_header.structs().items() for field, _ in kind._fields_]
    lines = [f'printf("%zu ", offsetof({name}, {field}));' for name, field in offsets]
    lines += [f'printf("%zu ", sizeof({name}));' for name in c_header.structs()]
    lines += [f'printf("%d ", {name});' for name in c_header.constants()]
    source = f'#include <stdio.h>\n#include "{c_header.HEADER}"\nint main(void) {{ {"".join(lines)} return 0; }}'
    compiler = shutil.which("gcc") or "cc"
    subprocess.run([compiler, "-xc", "-", "-o", str(tmp_path / "sizes")], input=source, text=True, check=True)
    told = subprocess.run([str(tmp_path / "sizes")], capture_output=True, text=True, check=True).stdout
    found = [getattr(c_header.structs()[name], field).offset for name, field in offsets]
    found += [ctypes.sizeof(kind) for kind in c_header.structs().values()]
    assert [int(number) for number in told.split()] == [*found, *c_header.constants().values()]

"""AArch64's tiles of bytes against their definitions in C (tests/int8_tables.c), where a cross-compiler and qemu are
installed. The program needs no Python, and runs on any machine."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ("-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fwrapv", "-fno-math-errno", "-Icsrc")
# The compiler, what runs its programs, and the tables of its machine.
MACHINES = {
    "aarch64-linux-gnu-gcc": (("qemu-aarch64", "-cpu", "max"), ("i8mm", "dotprod", "neon", "generic")),
}
PRESENT = [name for name, (runner, _) in MACHINES.items() if shutil.which(name) and all(map(shutil.which, runner[:1]))]


@pytest.mark.parametrize("compiler", PRESENT)
def test_every_table_is_as_defined(compiler, tmp_path):
    runner, tables = MACHINES[compiler]
    sources = [ROOT / "csrc/int8.c", ROOT / "tests/int8_tables.c", *sorted((ROOT / "csrc/isa").glob("int8_*.c"))]
    objects = [str(tmp_path / source.with_suffix(".o").name) for source in sources]

    def compile_one(source, to):
        subprocess.run([compiler, *FLAGS, "-c", str(source), "-o", to], cwd=ROOT, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, sources, objects))
    program = str(tmp_path / "tables")
    subprocess.run([compiler, "-static", *objects, "-lm", "-o", program], check=True)
    result = subprocess.run([*runner, program], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert result.stdout.splitlines() == [f"{name} 1" for name in tables]

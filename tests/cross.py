"""Compiles csrc and the C of all modules for other systems with zig's clang: `python tests/cross.py [target ...]`.

zig comes with the headers of those systems (`pip install ziglang`): csrc needs no others. Modules also need headers of
Python and of NumPy. They get those of the machine that compiles, whose settings may differ from the target's: what they
include of Linux alone is empty. Nothing is linked, and nothing runs.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = ("aarch64-linux-gnu", "aarch64-macos", "x86_64-macos", "x86_64-windows-gnu")
# Optimised as little as their assembly allows, which takes minutes less.
TILES = ("-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fno-math-errno", "-fwrapv", "-fvisibility=hidden",
         "-Icsrc")  # fmt: skip
MODULES = ("-O0", "-w", "-Icsrc", "-Isrc/fastcnn/include")
OF_LINUX = ("endian.h", "sys/select.h")


def compiles(target: str, source: Path, flags: tuple[str, ...]) -> bool:
    """Compile one file, and tell what stood in the way."""
    with tempfile.TemporaryDirectory() as folder:
        for header in OF_LINUX:
            path = Path(folder, header)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *flags, "-c", str(source)]
        command += ["-idirafter", folder]
        result = subprocess.run(
            [*command, "-o", str(Path(folder, "object.o"))], cwd=ROOT, capture_output=True, text=True
        )
    told = "ok" if result.returncode == 0 else result.stderr.strip()[:600]
    print(f"{target:20} {source.relative_to(ROOT)!s:44} {told}", flush=True)
    return result.returncode == 0


def module_flags() -> tuple[str, ...]:
    import numpy

    return (*MODULES, f"-I{sysconfig.get_path('include')}", f"-I{numpy.get_include()}")


def main(targets: list[str]) -> int:
    tiles = sorted((ROOT / "csrc").rglob("*.c"))
    modules = sorted(path.with_suffix(".c") for path in (ROOT / "src").rglob("*.pyx"))
    failed = []
    for target in targets or TARGETS:
        failed += [f"{target}: {source.name}" for source in tiles if not compiles(target, source, TILES)]
        good = [source for source in modules if source.exists() and compiles(target, source, module_flags())]
        print(f"{target:20} {len(good)} of {len(modules)} modules")
    print(*failed, sep="\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A linker for modules that run on an older glibc than this machine's: Zig's, from the package index.

    LDSHARED="python tools/link_for_old_glibc.py" python -m build --wheel

gcc compiles as always. Zig knows which symbols each version of glibc has, and binds to those of the version below.
Where the system's own glibc is as old as the wheel shall be, as in manylinux containers, this is not needed.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

GLIBC = "2.17"


def of_gcc(name: str) -> Path:
    """Where gcc has one of its libraries."""
    answer = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return Path(answer.stdout.strip())


def command(arguments: list[str]) -> list[str]:
    """The call of Zig in place of `gcc -shared ARGUMENTS`."""
    # For Zig, -fopenmp means clang's runtime. The modules ask gcc's for its limits.
    openmp = [f"-L{of_gcc('libgomp.so').parent}", "-l:libgomp.so"] if "-fopenmp" in arguments else []
    given = [argument for argument in arguments if argument != "-fopenmp"]
    # gcc's code asks gcc's library for the processor. Zig's has the same names, with other contents.
    support = str(of_gcc("libgcc.a"))
    target = f"{platform.machine()}-linux-gnu.{GLIBC}"
    # Without -O2 it links a runtime for checks that nobody has asked for.
    return [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-O2", *given, *openmp, support]


if __name__ == "__main__":
    raise SystemExit(subprocess.run(command(sys.argv[1:])).returncode)

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


def command(arguments: list[str]) -> list[str]:
    """The call of Zig in place of `gcc -shared ARGUMENTS`."""
    # For Zig, -fopenmp means clang's runtime. The modules ask gcc's for its limits.
    library = subprocess.run(["gcc", "-print-file-name=libgomp.so"], capture_output=True, text=True, check=True).stdout
    openmp = [f"-L{Path(library.strip()).parent}", "-l:libgomp.so"] if "-fopenmp" in arguments else []
    given = [argument for argument in arguments if argument != "-fopenmp"]
    target = f"{platform.machine()}-linux-gnu.{GLIBC}"
    # Without -O2 it links a runtime for checks that nobody has asked for.
    return [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-O2", *given, *openmp]


if __name__ == "__main__":
    raise SystemExit(subprocess.run(command(sys.argv[1:])).returncode)

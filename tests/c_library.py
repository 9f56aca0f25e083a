"""Small C libraries that tests need, made by the compiler that builds the package."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path


def c_library(source: str, folder: Path) -> ctypes.CDLL:
    """Compile a C source into a library, and load it."""
    path = folder / "library.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-xc", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    return ctypes.CDLL(str(path))

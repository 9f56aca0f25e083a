"""Builds fastcnn with gcc's sanitizers of addresses and undefined behaviour, and runs with it the tests of all that
computes: `python tests/sanitize.py [--fuzz] [arguments of pytest]`.

With --fuzz, the fuzzers run too. Paths among the arguments take the place of the tests that are named here; --nightly
gives the large random tests. The build has a folder of its own, and stays there for the next run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SANITIZERS = "address,undefined"
TESTS = ("tests/kernels", "tests/test_functional_arguments.py", "tests/test_functional_layouts.py",
         "tests/test_reference_gradients.py", "tests/test_layers.py", "tests/compiler/test_layout.py",
         "tests/training/test_trainer.py", "tests/training/test_optimizers.py")  # fmt: skip
FUZZERS = ("tests/fuzzing", "tests/io/test_onnx_hostile.py")


def library(name: str) -> str:
    """Where gcc has a library."""
    return subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()


def environment() -> dict[str, str]:
    """What a process needs to run the build."""
    folder = ROOT / "build" / f"sanitize-{SANITIZERS.replace(',', '-')}" / "lib"
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tests")]),
        "PYTHONMALLOC": "malloc",  # each object has guards of its own
        # Errors in C++ libraries need libstdc++ to be there when the sanitizer starts.
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
        # Python keeps memory to its end. Tests that ask for too much expect an error, not an end.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=16384",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def main(arguments: list[str]) -> int:
    """Build, run pytest, and give its exit status."""
    fuzz = "--fuzz" in arguments
    rest = [argument for argument in arguments if argument != "--fuzz"]
    build = [sys.executable, "setup.py", "-q", "build"]
    subprocess.run(build, cwd=ROOT, env={**os.environ, "FASTCNN_SANITIZE": SANITIZERS}, check=True)
    named = any(Path(ROOT, argument.split("::")[0]).exists() for argument in rest)
    paths = [] if named else [*TESTS, *(FUZZERS if fuzz else ())]
    # What a sanitizer prints as it ends the process is not captured; pytest has no handler of crashes of its own.
    command = [sys.executable, "-m", "pytest", "--capture=sys", "-p", "no:faulthandler", *rest, *paths]
    return subprocess.run(command, cwd=ROOT, env=environment()).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

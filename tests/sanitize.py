"""Builds fastcnn with gcc's sanitizers of addresses and undefined behaviour, and runs with it the tests of all that
computes: `python tests/sanitize.py [--fuzz] [arguments of pytest]`.

With --fuzz, the fuzzers run too. Paths among the arguments take the place of the tests that are named here; --nightly
gives the large random tests. The build has a folder of its own, and stays there for the next run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
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


def environment(reports: Path) -> dict[str, str]:
    """What a process needs to run the build; findings go to files that begin as `reports` does."""
    folder = ROOT / "build" / f"sanitize-{SANITIZERS.replace(',', '-')}" / "lib"
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tests")]),
        "PYTHONMALLOC": "malloc",  # each object has guards of its own
        # Errors in C++ libraries need libstdc++ to be there when the sanitizer starts.
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
        # Python keeps memory to its end. Tests that ask for too much expect an error, not an end.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=16384:"
        f"log_path={reports}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:halt_on_error=1:log_path={reports}",
    }


def main(arguments: list[str]) -> int:
    """Build, run pytest, print what was found, and give 0 where nothing was and all tests passed."""
    fuzz = "--fuzz" in arguments
    rest = [argument for argument in arguments if argument != "--fuzz"]
    build = [sys.executable, "setup.py", "-q", "build"]
    subprocess.run(build, cwd=ROOT, env={**os.environ, "FASTCNN_SANITIZE": SANITIZERS}, check=True)
    named = any(Path(ROOT, argument.split("::")[0]).exists() for argument in rest)
    paths = [] if named else [*TESTS, *(FUZZERS if fuzz else ())]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", *rest, *paths]
        status = subprocess.run(command, cwd=ROOT, env=environment(Path(folder, "report"))).returncode
        reports = [path.read_text(errors="replace") for path in Path(folder).iterdir()]
    for report in reports:
        print(report)
    return status or len(reports)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

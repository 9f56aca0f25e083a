"""Builds fastcnn with clang beside the build of gcc, warnings as errors, and runs the tests of all that computes:
`python tests/compilers.py [arguments of pytest]`.

Paths among the arguments take the place of the tests that are named here. The build has a folder of its own, and stays
there for the next run. gcc is what the package is built with otherwise: its warnings are errors here too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sanitize import TESTS

ROOT = Path(__file__).parents[1]


def main(arguments: list[str]) -> int:
    """Build with both, run pytest on clang's, and give its exit status."""
    for compiler in ("gcc", "clang"):
        folder = ROOT / "build" / compiler
        build = ["setup.py", "-q", "build", f"--build-base={folder}", f"--build-lib={folder / 'lib'}"]
        flags = {"CC": compiler, "LDSHARED": f"{compiler} -shared", "CFLAGS": "-Werror"}
        subprocess.run([sys.executable, *build], cwd=ROOT, env={**os.environ, **flags}, check=True)
    named = any(Path(ROOT, argument.split("::")[0]).exists() for argument in arguments)
    path = os.pathsep.join([str(folder / "lib"), str(ROOT / "tests")])
    command = [sys.executable, "-m", "pytest", *arguments, *(() if named else ("tests/test_smoke.py", *TESTS))]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

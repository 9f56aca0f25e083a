"""Makes a wheel of this machine one for all: auditwheel adds the OpenMP runtime, this adds its licence.

    python tools/repair_wheel.py dist/raw/fastcnn-…-linux_x86_64.whl --to dist [--libgomp FILE]

Without --libgomp the runtime is this system's, which decides how old a glibc the wheel runs on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LICENCE = Path(__file__).with_name("libgomp.txt")
OWN, BOTH = (
    "License-Expression: Apache-2.0\n",
    ("License-Expression: Apache-2.0 AND GPL-3.0-or-later WITH GCC-exception-3.1\n"),
)


def run(*command: str | Path, **environment: str) -> None:
    subprocess.run([sys.executable, "-m", *command], check=True, env={**os.environ, **environment})


def add_licence(wheel: Path, folder: Path) -> Path:
    """The wheel once more, with the licence of the runtime in its metadata."""
    run("wheel", "unpack", wheel, "-d", folder)
    (unpacked,) = folder.iterdir()
    (information,) = unpacked.glob("*.dist-info")
    metadata = (information / "METADATA").read_text(encoding="utf-8")
    if OWN not in metadata:
        raise SystemExit(f"the metadata of {wheel.name} lacks the line {OWN!r}")
    metadata = metadata.replace(OWN, BOTH).replace(
        "License-File: LICENSE\n", f"License-File: LICENSE\nLicense-File: {LICENCE.name}\n"
    )
    (information / "METADATA").write_text(metadata, encoding="utf-8")
    shutil.copy(LICENCE, information / "licenses")
    packed = folder / "packed"
    packed.mkdir()
    run("wheel", "pack", unpacked, "-d", packed)
    return next(packed.glob("*.whl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--to", type=Path, required=True, help="folder of the result")
    parser.add_argument("--libgomp", type=Path, help="the OpenMP runtime to add")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {}
        if arguments.libgomp:
            runtime = folder / "runtime" / "libgomp.so.1"  # the name that the modules ask for
            runtime.parent.mkdir()
            shutil.copy(arguments.libgomp, runtime)
            environment["LD_LIBRARY_PATH"] = str(runtime.parent)
        (folder / "wheel").mkdir()
        wheel = add_licence(arguments.wheel, folder / "wheel")
        run("auditwheel", "repair", "-z", "9", "--strip", wheel, "-w", arguments.to, **environment)


if __name__ == "__main__":
    main()

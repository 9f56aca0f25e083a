"""What a wheel must be, read from the file: its content, its libraries, its size, its licences.

    python tools/check_wheel.py dist/*.whl

Nothing is imported from the wheel. What it does once installed is the smoke suite's to tell.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

RUNTIME = 150_000  # bytes of the OpenMP runtime and its licence
LARGEST = 2_900_000 + RUNTIME
NEWEST_GLIBC = 28  # of 2.x: manylinux_2_28
PACKAGED = {".py", ".pyi", ".pxd", ".so", ".typed", ".txt", ".NOTICE"}
PAGE = "fastcnn/studio/static/"  # what the studio's page is made of
PAGE_SUFFIXES = {".html", ".css", ".js", ".svg"}
LARGEST_PAGE = 150_000  # bytes, as the browser gets it
C_API = {"fastcnn/include/fastcnn/capi.h", "fastcnn/capi.pxd"}
SYSTEM_LIBRARIES = re.compile(r"(libc|libm|libpthread|libdl|ld-linux-[\w-]+)\.so\.\d")
OPENMP = re.compile(r"libgomp-[\w.-]+")
EXECUTABLE = 1  # PF_X
FRAME_DUMMY = 8  # bytes of the only constructor that gcc adds to every library


def check(path: Path) -> list[str]:
    """What is wrong with a wheel, one line for each fault."""
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    faults = [*_tags(path.name), *_content(files), *_licences(files)]
    if path.stat().st_size > LARGEST:
        faults.append(f"{path.stat().st_size} bytes, expected at most {LARGEST}")
    for name, data in files.items():
        if data.startswith(b"\x7fELF"):
            faults += [f"{name}: {fault}" for fault in library_faults(data, is_module=name.startswith("fastcnn/"))]
    return faults


def _tags(name: str) -> Iterator[str]:
    python, abi, platforms = name.removesuffix(".whl").split("-")[-3:]
    if (abi == "abi3") != (int(python[3:]) >= 12) or (abi == "abi3" and python != "cp312"):
        yield f"built for {python}-{abi}, expected one cp312-abi3 for 3.12 and later"
    versions = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", platforms)]
    if not versions or min(versions) > NEWEST_GLIBC:
        yield f"for {platforms}, expected manylinux_2_{NEWEST_GLIBC} or older"


def _content(files: dict[str, bytes]) -> Iterator[str]:
    roots = {PurePosixPath(name).parts[0] for name in files}
    if strange := {root for root in roots if root not in ("fastcnn", "fastcnn.libs") and ".dist-info" not in root}:
        yield f"has {sorted(strange)} beside the package"
    for name in files:
        path = PurePosixPath(name)
        is_known = path.suffix in PACKAGED or name in C_API or (name.startswith(PAGE) and path.suffix in PAGE_SUFFIXES)
        if path.parts[0] == "fastcnn" and not is_known:
            yield f"{name} does not belong into a wheel"
        if "tests" in path.parts or "__pycache__" in path.parts:
            yield f"{name} does not belong into a wheel"
    modules = {name.split(".")[0] for name in files if name.endswith(".so") and name.startswith("fastcnn/")}
    stubs = {name.split(".")[0] for name in files if name.startswith("fastcnn/") and name.endswith(".pyi")}
    if modules != stubs or not modules:
        yield f"compiled modules and stubs differ: {sorted(modules ^ stubs)}"
    if "fastcnn/py.typed" not in files:
        yield "fastcnn/py.typed is missing"
    if missing := C_API - files.keys():
        yield f"{sorted(missing)} of the C API are missing"
    yield from _page(files)
    runtimes = [name for name in files if name.startswith("fastcnn.libs/")]
    if len(runtimes) != 1 or not OPENMP.fullmatch(PurePosixPath(runtimes[0]).name):
        yield f"bundles {runtimes}, expected one libgomp"


def _page(files: dict[str, bytes]) -> Iterator[str]:
    """The studio's page has all files that it names, and is small."""
    page = {name.removeprefix(PAGE): data.decode() for name, data in files.items() if name.startswith(PAGE)}
    named = {"index.html", *re.findall(r"/static/([\w.]+)", page.get("index.html", ""))}
    named |= {name for text in page.values() for name in re.findall(r'from "\./([\w.]+)"', text)}
    if missing := named - page.keys():
        yield f"{sorted(missing)} of the studio's page are missing"
    if (size := sum(map(len, page.values()))) > LARGEST_PAGE:
        yield f"the studio's page has {size} bytes, expected at most {LARGEST_PAGE}"


def _licences(files: dict[str, bytes]) -> Iterator[str]:
    metadata = next((data.decode() for name, data in files.items() if name.endswith(".dist-info/METADATA")), "")
    told = re.findall(r"(?m)^License-File: (.*)$", metadata)
    there = [name.partition("/licenses/")[2] for name in files if "/licenses/" in name]
    if sorted(told) != sorted(there) or sorted(told) != ["LICENSE", "libgomp.txt"]:
        yield f"licences in METADATA {told}, as files {there}, expected LICENSE and libgomp.txt"
    if "License-Expression: Apache-2.0 AND GPL-3.0-or-later WITH GCC-exception-3.1\n" not in metadata:
        yield "METADATA does not tell the licence of libgomp"


def library_faults(data: bytes, is_module: bool) -> Iterator[str]:
    """What is wrong with one library of ELF."""
    file = ELFFile(io.BytesIO(data))
    stacks = [segment for segment in file.iter_segments() if segment["p_type"] == "PT_GNU_STACK"]
    if not stacks or any(segment["p_flags"] & EXECUTABLE for segment in stacks):
        yield "its stack is executable"
    dynamic = next(section for section in file.iter_segments() if isinstance(section, DynamicSection) or
                   section["p_type"] == "PT_DYNAMIC")  # fmt: skip
    for tag in dynamic.iter_tags():
        if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
            text = tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath
            if not all(part.startswith("$ORIGIN/") for part in text.split(":")):
                yield f"is searched for libraries in {text}"
        if tag.entry.d_tag == "DT_NEEDED" and not (
            SYSTEM_LIBRARIES.fullmatch(tag.needed) or OPENMP.fullmatch(tag.needed)
        ):
            yield f"needs {tag.needed}"
        # crtfastmath.o, which -ffast-math links, is a second one.
        if is_module and tag.entry.d_tag == "DT_INIT_ARRAYSZ" and tag.entry.d_val > FRAME_DUMMY:
            yield "changes the process when it is loaded: it has constructors of its own"


def main(paths: list[str]) -> int:
    faults = [f"{path}: {fault}" for path in paths for fault in check(Path(path))]
    print("\n".join(faults) or f"{len(paths)} wheels are as they must be")
    return 1 if faults or not paths else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

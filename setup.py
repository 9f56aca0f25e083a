"""Builds the C tiles as one static library and each Cython module on top; everything else is in pyproject.toml."""

import itertools
import os
import sys
import sysconfig
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

TILE_SOURCES = ["csrc/cpu.c", "csrc/team.c", "csrc/isa/generic.c", "csrc/isa/avx2.c", "csrc/isa/avx512.c"]
TILE_HEADERS = sorted(str(path) for folder in ("csrc", "csrc/tiles") for path in Path(folder).glob("*.h"))
# No -march: each file in csrc/isa enables its instructions by a pragma. No -ffast-math: NaN and infinity count.
TILE_FLAGS = ["-O3", "-std=gnu11", "-Wall", "-Wextra", "-fno-math-errno", "-fwrapv", "-DNDEBUG", "-fPIC"]
LOOP_FLAGS = ["-O2", "-Wno-unreachable-code"]
# Neither debugging symbols, which linking drops, nor tables for exceptions, which neither C nor Cython throws.
SMALL_FLAGS = ["-fvisibility=hidden", "-g0", "-fno-asynchronous-unwind-tables"]
TILE_FLAGS += SMALL_FLAGS
LOOP_FLAGS += SMALL_FLAGS
LINK_FLAGS = ["-pthread", "-Wl,-s"]

# gcc's names of sanitizers, "address,undefined" for one. That build has a folder of its own: see tests/sanitize.py.
SANITIZERS = os.environ.get("FASTCNN_SANITIZE", "")
BUILD_FOLDER = "build"
if SANITIZERS:
    BUILD_FOLDER = "build/sanitize-" + SANITIZERS.replace(",", "-")
    # Calls instead of inlined checks, and none that "address" makes already: the tiles are unrolled.
    checks = [
        "-O1",
        "-g1",
        "-fno-omit-frame-pointer",
        "-fno-wrapv",
        f"-fsanitize={SANITIZERS}",
        "-fno-sanitize-recover=all",
        "-fno-sanitize=null,object-size",
        "--param",
        "asan-instrumentation-with-call-threshold=0",
    ]
    TILE_FLAGS += checks
    LOOP_FLAGS += checks
    LINK_FLAGS = ["-pthread", f"-fsanitize={SANITIZERS}"]


def tile_flags(source):
    """Flags of one instruction set. The bodies are the same in all, so "undefined" is asked of generic.c alone: with
    vectors of 512 bits its checks take gcc half an hour."""
    return ["-fno-sanitize=undefined"] if SANITIZERS and source.startswith("csrc/isa/avx") else []


class BuildTiles(build_clib):
    """build_clib that compiles the instruction sets side by side: avx512.c alone takes as long as the rest. Objects
    that are newer than all that they are made of are kept."""

    def build_libraries(self, libraries):
        from concurrent.futures import ThreadPoolExecutor

        # The flags of this Python's own build are left out: tiles are the same for all of them.
        name = list(itertools.takewhile(lambda part: not part.startswith("-"), self.compiler.compiler_so))
        given = [flag for variable in ("CPPFLAGS", "CFLAGS") for flag in os.environ.get(variable, "").split()]
        self.compiler.set_executable("compiler_so", [*name, *given])
        for name, build in libraries:

            def compile_one(source, build=build):
                objects = self.compiler.object_filenames([source], output_dir=self.build_temp)
                if not newer_group([source, *TILE_HEADERS, "setup.py"], objects[0]):
                    return objects
                return self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    include_dirs=["csrc"],
                    debug=self.debug,
                    extra_postargs=[*build["cflags"], *tile_flags(source)],
                    depends=TILE_HEADERS,
                )

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = [path for paths in pool.map(compile_one, build["sources"]) for path in paths]
            self.compiler.create_static_lib(objects, name, output_dir=self.build_clib, debug=self.debug)


class BuildModules(build_ext):
    """build_ext on all cores, after the tiles. Every module links the archive of tiles; few refer to it."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self):
        self.run_command("build_clib")
        super().run()


# From 3.12 on, modules use only the C API that all later versions of Python keep: one wheel serves them. Free-threaded
# Python lacks that API.
STABLE_API = sys.version_info >= (3, 12) and not sysconfig.get_config_var("Py_GIL_DISABLED")
STABLE_MACROS = [("Py_LIMITED_API", "0x030C0000"), ("CYTHON_LIMITED_API", "1")] if STABLE_API else []

# What refers to the archive: to the tables of tiles, and to the threads.
TILE_USERS = ("_cpu", "_program")
# OpenMP is only asked for its limits on threads.
OPENMP_USERS = ("_cpu",)


def modules():
    """One extension for each .pyx."""
    for path in sorted(Path("src/fastcnn").rglob("*.pyx")):
        openmp = ["-fopenmp"] if path.stem in OPENMP_USERS else []
        yield Extension(
            ".".join(path.relative_to("src").with_suffix("").parts),
            [str(path)],
            include_dirs=["csrc", "src/fastcnn/include", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), *STABLE_MACROS],
            py_limited_api=STABLE_API,
            depends=[*TILE_HEADERS, *(TILE_SOURCES if path.stem in TILE_USERS else [])],
            extra_compile_args=[*LOOP_FLAGS, *openmp],
            extra_link_args=[*LINK_FLAGS, *openmp],
        )


setup(
    libraries=[("fastcnn_tiles", {"sources": TILE_SOURCES, "cflags": TILE_FLAGS})],
    ext_modules=cythonize(
        list(modules()),
        include_path=["src"],
        nthreads=os.cpu_count() or 1,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
        },
    ),
    options={
        "bdist_wheel": {"py_limited_api": "cp312"} if STABLE_API else {},
        "build": {"build_base": BUILD_FOLDER, "build_lib": f"{BUILD_FOLDER}/lib"} if SANITIZERS else {},
    },
    cmdclass={"build_clib": BuildTiles, "build_ext": BuildModules},
)

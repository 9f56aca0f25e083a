"""Builds the C tiles as one static library and each Cython module on top; everything else is in pyproject.toml."""

import itertools
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

INT8_SOURCES = ["csrc/int8.c", *sorted(str(path) for path in Path("csrc/isa").glob("int8_*.c"))]
TILE_SOURCES = ["csrc/cpu.c", "csrc/team.c", "csrc/isa/generic.c", "csrc/isa/avx2.c", "csrc/isa/avx512.c",
                "csrc/isa/neon.c", "csrc/isa/bf16_avx512.c", *INT8_SOURCES]  # fmt: skip
INT8_HEADERS = ["csrc/int8.h", *sorted(str(path) for path in Path("csrc/int8").glob("*.h"))]
BF16_HEADERS = ["csrc/bf16.h"]
TILE_HEADERS = sorted({str(path) for path in Path("csrc").rglob("*.h")} - {*INT8_HEADERS, *BF16_HEADERS})


def headers_of(source):
    """What a file of C or of Cython may include."""
    name = Path(source).stem
    own = INT8_HEADERS if "int8" in name else BF16_HEADERS if "bf16" in name else []
    return [*TILE_HEADERS, *own]


@dataclass(frozen=True)
class Flags:
    """What a compiler is told for tiles, for Cython modules, for links, and to compile and to link with OpenMP."""

    tiles: tuple[str, ...]
    modules: tuple[str, ...]
    link: tuple[str, ...]
    openmp: tuple[str, ...] = ("-fopenmp",)
    openmp_link: tuple[str, ...] = ("-fopenmp",)


# No -march: each file in csrc/isa enables its instructions by attributes. No -ffast-math: NaN and infinity count.
# Neither debugging symbols, which linking drops, nor tables for exceptions, which neither C nor Cython throws.
_SMALL = ("-fvisibility=hidden", "-g0", "-fno-asynchronous-unwind-tables")
_TILES = ("-O3", "-std=gnu11", "-Wall", "-Wextra", "-fno-math-errno", "-fwrapv", "-DNDEBUG", "-fPIC", *_SMALL)
# Cython writes statements that nothing reaches, and functions that nothing calls.
_MODULES = ("-O2", "-fno-plt", "-Wno-unreachable-code", "-Wno-unused-function", *_SMALL)
_LINK = ("-pthread", "-Wl,-s")
# Scheduling before register allocation, of which gcc for x86-64 thinks as little, spills the sums of tiles.
GCC = Flags((*_TILES, "-fno-schedule-insns"), _MODULES, _LINK)
CLANG = Flags(_TILES, _MODULES, _LINK)
# Apple's clang comes without the OpenMP runtime, which Homebrew has as libomp.
APPLE = Flags(_TILES, _MODULES, ("-pthread",), ("-Xpreprocessor", "-fopenmp"), ("-lomp",))
WINDOWS = "synchronization.lib"
CLANG_CL = Flags(
    ("/O2", "/std:c11", "-W4", "-Wno-unused-parameter"), ("/O2",), (WINDOWS,), ("/openmp",), ("libomp.lib",)
)
MINGW = Flags(GCC.tiles, _MODULES, (*_LINK, "-lsynchronization"))


def flags_of(compiler):
    """The flags of setuptools' compiler. Microsoft's own knows no vector types: its place is taken by clang-cl."""
    if compiler.compiler_type == "msvc":
        compiler.initialize()
        compiler.cc = os.environ.get("CC", "clang-cl")
        return CLANG_CL
    if sys.platform == "win32":
        return MINGW
    told = subprocess.run([*compiler.compiler_so, "--version"], capture_output=True, text=True).stdout
    if "clang" not in told:
        return GCC
    return APPLE if sys.platform == "darwin" else CLANG


def has_openmp(compiler, flags):
    """Whether a program with OpenMP can be built. It is only asked for its limits on threads: without it there are
    none."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "asks.c")
        source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
        try:
            objects = compiler.compile([str(source)], output_dir=folder, extra_postargs=list(flags.openmp))
            compiler.link_executable(objects, "asks", output_dir=folder, extra_postargs=list(flags.openmp_link))
        except Exception as error:  # of the compiler, whichever it is
            print(f"fastcnn is built without OpenMP: {error}", file=sys.stderr)
            return False
    return True


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
    GCC = Flags((*GCC.tiles, *checks), (*GCC.modules, *checks), ("-pthread", f"-fsanitize={SANITIZERS}"))


# Machines that almost all run a table of their own: the portable one is compiled to be small.
HAVE_TILES = ("x86_64", "amd64", "aarch64", "arm64")


def tile_flags(source, flags):
    """Flags of one instruction set. The bodies are the same in all, so "undefined" is asked of generic.c alone: with
    vectors of 512 bits its checks take gcc half an hour."""
    name = Path(source).stem
    if SANITIZERS:
        return ["-fno-sanitize=undefined"] if "avx" in name else []
    is_spare = "generic" in name and platform.machine().lower() in HAVE_TILES
    return ["-Os"] if is_spare and "-O3" in flags.tiles else []


class BuildTiles(build_clib):
    """build_clib that compiles the instruction sets side by side: avx512.c alone takes as long as the rest. Objects
    that are newer than all that they are made of are kept."""

    def build_libraries(self, libraries):
        from concurrent.futures import ThreadPoolExecutor

        flags = flags_of(self.compiler)
        if self.compiler.compiler_type == "unix":
            # The flags of this Python's own build are left out: tiles are the same for all of them.
            name = list(itertools.takewhile(lambda part: not part.startswith("-"), self.compiler.compiler_so))
            given = [flag for variable in ("CPPFLAGS", "CFLAGS") for flag in os.environ.get(variable, "").split()]
            self.compiler.set_executable("compiler_so", [*name, *given])
        for name, build in libraries:

            def compile_one(source):
                objects = self.compiler.object_filenames([source], output_dir=self.build_temp)
                if not newer_group([source, *headers_of(source), "setup.py"], objects[0]):
                    return objects
                return self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    include_dirs=["csrc"],
                    debug=self.debug,
                    extra_postargs=[*flags.tiles, *tile_flags(source, flags)],
                    depends=headers_of(source),
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

    def build_extensions(self):
        flags = flags_of(self.compiler)
        openmp = has_openmp(self.compiler, flags)
        for module in self.extensions:
            name = module.name.rpartition(".")[2]
            uses = openmp and name in OPENMP_USERS
            small = ["-Os"] if name in SMALL_MODULES and "-O2" in flags.modules and not SANITIZERS else []
            module.extra_compile_args = [*flags.modules, *small, *(flags.openmp if uses else ())]
            module.extra_link_args = [*flags.link, *(flags.openmp_link if uses else ())]
        super().build_extensions()


# From 3.12 on, modules use only the C API that all later versions of Python keep: one wheel serves them. Free-threaded
# Python lacks that API.
STABLE_API = sys.version_info >= (3, 12) and not sysconfig.get_config_var("Py_GIL_DISABLED")
STABLE_MACROS = [("Py_LIMITED_API", "0x030C0000"), ("CYTHON_LIMITED_API", "1")] if STABLE_API else []

# What makes modules small: docs/tuning.md, "Size of the wheel". Cython copies its short cuts through Python's insides
# into each module. A wheel compresses texts better than Cython does. Classes take less code in the stable API's form.
SMALL_MACROS = [
    *((f"CYTHON_{name}", "0") for name in ("FAST_THREAD_STATE", "UNPACK_METHODS", "USE_PYLONG_INTERNALS")),
    ("CYTHON_COMPRESS_STRINGS", "0"),
    ("CYTHON_USE_TYPE_SPECS", "1"),
]

# What refers to the archive: to tiles and their tables, and to the threads.
TILE_USERS = ("_conv_bf16", "_cpu", "_int8", "_program")
# OpenMP is only asked for its limits on threads.
OPENMP_USERS = ("_cpu",)
# What has no loops of its own that take time: what surrounds calls of tiles, of Python, and of plans.
SMALL_MODULES = ("_c_table", "_call", "_cpu", "_direct_filters", "_evaluate", "_step", "_winograd_filters")


def modules():
    """One extension for each .pyx."""
    for path in sorted(Path("src/fastcnn").rglob("*.pyx")):
        yield Extension(
            ".".join(path.relative_to("src").with_suffix("").parts),
            [str(path)],
            include_dirs=["csrc", "src/fastcnn/include", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), *SMALL_MACROS, *STABLE_MACROS],
            py_limited_api=STABLE_API,
            depends=[*headers_of(path), *(TILE_SOURCES if path.stem in TILE_USERS else [])],
        )


setup(
    libraries=[("fastcnn_tiles", {"sources": TILE_SOURCES})],
    ext_modules=cythonize(
        list(modules()),
        include_path=["src"],
        nthreads=os.cpu_count() or 1,
        compiler_directives={
            "language_level": 3,
            "binding": False,  # functions that only fastcnn calls need no signature: a tenth of each module
            "auto_pickle": False,  # steps hold addresses: they are made anew, never pickled
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

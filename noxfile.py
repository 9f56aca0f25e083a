"""Tasks of contributors: `nox -l` lists them, `nox -s test -- -x tests/kernels` runs one with arguments.

Each has a virtual environment of its own; with `--no-venv` it runs in the one that is active, and installs nothing.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "test"]

BUILD_TOOLS = ("setuptools>=77", "cython>=3.1", "numpy>=2.0")
TESTED = ("-e", ".[test]")
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
def lint(session: nox.Session) -> None:
    """What reads the code and does not run it."""
    install(session, *TESTED)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-cache")
    session.run("clang-format", "--dry-run", "-Werror", *C_FILES)
    session.run("cython-lint", "src/fastcnn/kernels")


@nox.session
def docs(session: nox.Session) -> None:
    """Run what the documents say: snippets, commands, doctests, examples."""
    install(session, *TESTED)
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

"""What is published: the sdist has all files, and the checks of wheels and releases find what they are for."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import check_wheel
import link_for_old_glibc
import pytest
import release
from setuptools._distutils.filelist import FileList

ROOT = Path(__file__).parents[1]
SITE = ("docs/_build/", "docs/api/generated/", "docs/tutorials/", "docs/sg_execution_times")  # what building it leaves
FOLDERS = (".ci", "benchmarks", "csrc", "docs", "examples", "src", "tests", "tools")
BUILT = {".so", ".o", ".a", ".pyc"}
METADATA = (
    "License-Expression: Apache-2.0 AND GPL-3.0-or-later WITH GCC-exception-3.1\n"
    "License-File: LICENSE\nLicense-File: libgomp.txt\n"
)
WHEEL = "fastcnn-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"


def test_the_sdist_has_all_files(monkeypatch):
    """MANIFEST.in lists whatever tests, documents and tools read."""
    monkeypatch.chdir(ROOT)
    listed = FileList()
    listed.findall()
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines():
        listed.process_template_line(line)
    files = {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in BUILT and "egg-info" not in str(path)
    }
    files = {name for name in files if not name.startswith(SITE)} | {path.name for path in ROOT.glob("*.md")}
    sources = {name for name in files if name.startswith("src/")}
    made = {name for name in sources if name.endswith(".c")}  # by Cython
    added = {"README.md", *(name for name in sources if name.endswith(".py"))}  # by setuptools
    assert files - made - added - set(listed.files) == set()
    assert not made & set(listed.files)
    assert [name for name in listed.files if name.startswith(SITE)] == []


@pytest.fixture
def module(tmp_path):
    """module(*flags): the bytes of a small library that is linked with these flags."""

    def build(*flags: str) -> bytes:
        path = tmp_path / "module.so"
        command = ["gcc", "-shared", "-fPIC", "-xc", "-", "-o", str(path), *flags]
        subprocess.run(command, input="int PyInit_a(void) { return 0; }", text=True, check=True)
        return path.read_bytes()

    return build


def wheel_of(tmp_path, files: dict[str, bytes | str | None], name: str = WHEEL) -> Path:
    """A wheel as it must be, but for these files; None leaves one out."""
    usual = {
        "fastcnn/__init__.py": "",
        "fastcnn/py.typed": "",
        **dict.fromkeys(check_wheel.C_API, ""),
        f"{check_wheel.PAGE}index.html": '<script type="module" src="/static/app.js"></script>',
        f"{check_wheel.PAGE}app.js": 'import { h } from "./dom.js";',
        f"{check_wheel.PAGE}dom.js": "",
        "fastcnn/kernels/_a.cpython-311-x86_64-linux-gnu.so": "",
        "fastcnn/kernels/_a.pyi": "",
        "fastcnn.libs/libgomp-1234.so.1": "",
        "fastcnn-1.0.dist-info/METADATA": METADATA,
        "fastcnn-1.0.dist-info/licenses/LICENSE": "",
        "fastcnn-1.0.dist-info/licenses/libgomp.txt": "",
    }
    with zipfile.ZipFile(tmp_path / name, "w") as wheel:
        for path, content in {**usual, **files}.items():
            if content is not None:
                wheel.writestr(path, content)
    return tmp_path / name


def test_a_wheel_as_it_must_be_passes(tmp_path, module):
    good = {"fastcnn/kernels/_a.cpython-311-x86_64-linux-gnu.so": module("-Wl,-rpath,$ORIGIN/../../fastcnn.libs")}
    assert check_wheel.check(wheel_of(tmp_path, good)) == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"strange/a.py": ""}, "beside the package"),
        ({f"{check_wheel.PAGE}index.html": None}, "['index.html'] of the studio's page are missing"),
        ({f"{check_wheel.PAGE}dom.js": None}, "['dom.js'] of the studio's page are missing"),
        ({f"{check_wheel.PAGE}dom.js": "/" * 150_001}, "expected at most 150000"),
        ({f"{check_wheel.PAGE}dom.ts": ""}, "does not belong"),
        ({"fastcnn/page.html": ""}, "does not belong"),
        ({"fastcnn/tests/test_a.py": ""}, "does not belong"),
        ({"fastcnn/kernels/_a.pyx": ""}, "does not belong"),
        ({"fastcnn/kernels/_a.c": ""}, "does not belong"),
        ({"fastcnn/include/fastcnn/team.h": ""}, "does not belong"),
        ({"fastcnn/include/fastcnn/capi.h": None}, "of the C API are missing"),
        ({"fastcnn/kernels/_b.pyi": ""}, "modules and stubs differ"),
        ({"fastcnn/_b.abi3.so": ""}, "modules and stubs differ"),
        ({"fastcnn/py.typed": None}, "py.typed is missing"),
        ({"fastcnn.libs/libgomp-5678.so.1": ""}, "expected one libgomp"),
        ({"fastcnn.libs/libgomp-1234.so.1": None, "fastcnn.libs/libm-1.so.6": ""}, "expected one libgomp"),
        ({"fastcnn-1.0.dist-info/licenses/libgomp.txt": None}, "licences in METADATA"),
        ({"fastcnn-1.0.dist-info/METADATA": METADATA.replace("GPL", "LGPL")}, "licence of libgomp"),
        ({"fastcnn/a.txt": bytes(3_050_001)}, "expected at most 3050000"),
    ],
)
def test_what_a_wheel_must_not_be_is_found(files, fault, tmp_path):
    faults = check_wheel.check(wheel_of(tmp_path, files))
    assert len(faults) == 1 and fault in faults[0]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("fastcnn-1.0-cp311-cp311-linux_x86_64.whl", "expected manylinux_2_28"),
        ("fastcnn-1.0-cp311-cp311-manylinux_2_34_x86_64.whl", "expected manylinux_2_28"),
        ("fastcnn-1.0-cp313-cp313-manylinux_2_17_x86_64.whl", "expected one cp312-abi3"),
        ("fastcnn-1.0-cp311-abi3-manylinux_2_17_x86_64.whl", "expected one cp312-abi3"),
    ],
)
def test_a_wheel_for_other_systems_is_found(name, fault, tmp_path):
    (found,) = check_wheel.check(wheel_of(tmp_path, {}, name))
    assert fault in found


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["-Wl,-z,execstack"], "stack is executable"),
        (["-Wl,-rpath,/opt/lib"], "searched for libraries in /opt/lib"),
        (["-Wl,--disable-new-dtags,-rpath,/opt/lib"], "searched for libraries in /opt/lib"),
        (["-Wl,--no-as-needed", "-lstdc++"], "needs libstdc++"),
        (["-ffast-math", "-O1"], "constructors of its own"),
    ],
)
def test_what_a_library_must_not_be_is_found(flags, fault, module):
    faults = list(check_wheel.library_faults(module(*flags), is_module=True))
    assert any(fault in found for found in faults), faults
    assert not list(check_wheel.library_faults(module(), is_module=True))


CHANGELOG = "# Changelog\n\n## 1.2.0 (2030-01-31)\n\n## 1.1.0 (2029-12-01)\n"


@pytest.mark.parametrize(
    ("version", "changelog", "tags", "fault"),
    [
        ("1.2.0", CHANGELOG, ["v1.2.0"], None),
        ("1.3.0", CHANGELOG, ["v1.3.0"], "begins with '1.2.0', expected '1.3.0'"),
        ("1.2.0", CHANGELOG, ["v1.1.0"], "expected v1.2.0"),
        ("1.2.0", CHANGELOG.replace("2030-01-31", "not released yet"), ["v1.2.0"], "expected a date"),
        ("1.2.0.dev3", CHANGELOG, ["v1.2.0.dev3"], "expected a release"),
    ],
)
def test_version_changelog_and_tag_agree(version, changelog, tags, fault):
    faults = list(release.version_faults(version, changelog, tags, rehearsal=False))
    assert [fault in found for found in faults] == ([] if fault is None else [True])


def test_a_rehearsal_needs_neither_tag_nor_date():
    changelog = CHANGELOG.replace("2030-01-31", "not released yet")
    assert not list(release.version_faults("1.2.0.dev0", changelog, [], rehearsal=True))
    assert list(release.version_faults("1.3.0.dev0", changelog, [], rehearsal=True))


def test_sdist_and_files_of_a_release():
    names = ["fastcnn-1.0/setup.py", "fastcnn-1.0/src/fastcnn/__init__.py"]
    assert not list(release.sdist_faults(names, ["setup.py", ".github/pull_request_template.md"]))
    assert "lacks ['docs/onnx.md']" in next(release.sdist_faults(names, ["docs/onnx.md"]))
    assert "are built" in next(release.sdist_faults([*names, "fastcnn-1.0/src/fastcnn/kernels/_a.c"], []))
    wheels = [f"fastcnn-1.0-{tag}-manylinux_2_17_x86_64.whl" for tag in release.WHEEL_TAGS]
    assert not list(release.file_faults(["fastcnn-1.0.tar.gz", *wheels], "1.0"))
    assert "has no fastcnn-1.0.tar.gz" in next(release.file_faults(wheels, "1.0"))
    assert "also has" in next(release.file_faults(["fastcnn-1.0.tar.gz", *wheels, "fastcnn-0.9.tar.gz"], "1.0"))


def test_checksums_and_bill_of_materials(tmp_path, monkeypatch):
    monkeypatch.setattr(release, "DIST", tmp_path)
    (tmp_path / "a.whl").write_bytes(b"wheel")
    (tmp_path / "fastcnn.cdx.json").write_text('{"components": [{"name": "numpy"}]}')
    for _ in range(2):  # the second time changes nothing
        release.write_checksums()
        bill = json.loads((tmp_path / "fastcnn.cdx.json").read_text())
        assert [part["name"] for part in bill["components"]] == ["numpy", "libgomp"]
    answer = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (0, "a.whl: OK\nfastcnn.cdx.json: OK\n")


def test_the_linker_for_old_systems_replaces_what_zig_reads_otherwise():
    command = link_for_old_glibc.command(["a.o", "-fopenmp", "-o", "a.so"])
    assert "-fopenmp" not in command and "-l:libgomp.so" in command
    assert any(part.endswith("-linux-gnu.2.17") for part in command)
    assert command[-1].endswith("libgcc.a")  # or the modules would not know their processor
    assert "-l:libgomp.so" not in link_for_old_glibc.command(["a.o"])

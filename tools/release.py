"""Checks what is to be released, and writes its checksums.

    python tools/release.py check [--rehearsal]
    python tools/release.py checksums

The first compares version, changelog, tag, sdist and wheels. The second adds libgomp to dist/fastcnn.cdx.json, and
writes dist/SHA256SUMS.

A rehearsal may be of a development version: neither a tag nor a date in the changelog is asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import check_wheel

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
WHEEL_TAGS = ("cp310-cp310", "cp311-cp311", "cp312-abi3")
NOT_IN_SDIST = re.compile(r"\.github/|\.gitignore")  # of the repository, not of a release


def version_faults(version: str, changelog: str, tags: Iterable[str], rehearsal: bool) -> Iterator[str]:
    """Whether the version is a release, the newest of the changelog, and the tag of this commit."""
    heading = re.search(r"(?m)^## (\S+) \((.*)\)$", changelog)
    newest, date = heading.groups() if heading else ("", "")
    final = re.sub(r"\.dev\d+$", "", version)
    if newest != final:
        yield f"CHANGELOG.md begins with {newest!r}, expected {final!r}"
    if rehearsal:
        return
    if final != version:
        yield f"the version is {version}, expected a release: {final}"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        yield f"CHANGELOG.md says {newest} ({date}), expected a date"
    if f"v{version}" not in tags:
        yield f"this commit has tags {sorted(tags)}, expected v{version}"


def sdist_faults(names: Iterable[str], tracked: Iterable[str]) -> Iterator[str]:
    """Whether the sdist has all files of the repository, and nothing that was built."""
    there = {name.partition("/")[2] for name in names}
    if missing := {name for name in tracked if not NOT_IN_SDIST.match(name)} - there:
        yield f"the sdist lacks {sorted(missing)}"
    if built := sorted(name for name in there if re.search(r"\.(so|o|a|pyc|pyd)$|^src/.*\.c$", name)):
        yield f"the sdist has {built}, which are built"


def file_faults(names: Iterable[str], version: str) -> Iterator[str]:
    """Whether dist/ holds the sdist and every wheel of this version, and none of another."""
    names = sorted(names)
    for wanted in (f"fastcnn-{version}.tar.gz", *(f"fastcnn-{version}-{tag}-" for tag in WHEEL_TAGS)):
        if not any(name.startswith(wanted) for name in names):
            yield f"dist/ has no {wanted}"
    if others := [name for name in names if not name.startswith((f"fastcnn-{version}-", f"fastcnn-{version}.tar"))]:
        yield f"dist/ also has {others}"


def git(*arguments: str) -> list[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def check(rehearsal: bool) -> list[str]:
    """All faults of the release in dist/."""
    text = (ROOT / "src/fastcnn/_version.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'__version__ = "(.*)"', text)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    packages = [path for path in DIST.iterdir() if path.name.endswith((".whl", ".tar.gz"))]
    faults = [
        *version_faults(version, changelog, git("tag", "--points-at", "HEAD"), rehearsal),
        *file_faults((path.name for path in packages), version),
    ]
    if not rehearsal and (changed := git("status", "--porcelain")):
        faults.append(f"the work tree has changes: {changed}")
    for path in packages:
        if path.suffix == ".whl":
            faults += [f"{path.name}: {fault}" for fault in check_wheel.check(path)]
        else:
            with tarfile.open(path) as archive:
                faults += sdist_faults(archive.getnames(), git("ls-files"))
    return faults


def with_runtime(bill: dict[str, Any]) -> dict[str, Any]:
    """A bill of materials (CycloneDX) that also names what wheels contain beside Python packages."""
    runtime = {
        "type": "library",
        "bom-ref": "libgomp",
        "name": "libgomp",
        "description": "OpenMP runtime of GCC, in the wheels for Linux",
        "licenses": [{"expression": "GPL-3.0-or-later WITH GCC-exception-3.1"}],
    }
    others = [part for part in bill["components"] if part["name"] != "libgomp"]
    return {**bill, "components": [*others, runtime]}


def write_checksums() -> None:
    """Complete the bill of materials, then list the checksums of all files."""
    bill = DIST / "fastcnn.cdx.json"
    bill.write_text(json.dumps(with_runtime(json.loads(bill.read_text(encoding="utf-8"))), indent=2), encoding="utf-8")
    files = sorted(path for path in DIST.iterdir() if path.name != "SHA256SUMS" and path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (DIST / "SHA256SUMS").write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("check", "checksums"))
    parser.add_argument("--rehearsal", action="store_true")
    arguments = parser.parse_args()
    if arguments.task == "checksums":
        write_checksums()
    elif found := check(arguments.rehearsal):
        raise SystemExit("\n".join(found))

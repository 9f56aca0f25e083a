"""`fastcnn check`: what is wrong with a folder of photos, before anything is learned from it."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from fastcnn._replace import check_writable, replacing
from fastcnn._table import as_table
from fastcnn.cli._check_page import page
from fastcnn.training.photo_check import FolderReport, check_folder, move_aside

_LISTED = 5  # of each kind


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "FOLDER has one sub-folder of photos for each class, or such folders in train, val and test.\n"
        "Exit code 1 tells of photos that are broken, double, or in training and validation both.\n\n"
        "example: fastcnn check flowers/ --page flowers.html"
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder of photos")
    parser.add_argument("--validation", metavar="FOLDER", help="a second folder, that models are validated on")
    parser.add_argument("--json", action="store_true", help="print a JSON object, with all names")
    parser.add_argument("--page", metavar="FILE", help="write an HTML page that shows the photos")
    parser.add_argument(
        "--fix",
        action="store_true",
        help="move broken photos, and copies that are one too many, into FOLDER-aside beside the folder",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what was found; 1 where there are faults that were not moved aside."""
    if options.page:
        check_writable(options.page, "--page")
    report = check_folder(options.folder, options.validation, False if options.json else None)
    if options.page:
        with replacing(options.page) as file:
            file.write(page(report).encode())
    roots = [options.folder] if options.validation is None else [options.folder, options.validation]
    moved = move_aside(report, roots) if options.fix else {}
    if options.json:
        print(json.dumps({**report.to_dict(), "moved": moved}, indent=2))
    else:
        print("\n".join(_lines(report)))
        if options.fix:
            print(f"\nmoved {len(moved)} files aside" + _where(moved))
    left = report.has_faults if not options.fix else bool(_leaks_left(report, moved))
    return 1 if left else 0


def _leaks_left(report: FolderReport, moved: dict[str, str]) -> list[list[str]]:
    """Leaks of photos that only look the same: which one should go is for a person to say."""
    rest = [[path for path in group if path not in moved] for group in report.leaks]
    return [group for group in rest if len(group) > 1]


def _where(moved: dict[str, str]) -> str:
    return f", below {os.path.commonpath([os.path.dirname(path) for path in moved.values()])}" if moved else ""


def _lines(report: FolderReport) -> list[str]:
    lines = [f"{report.count} photos in {report.folder}", *_classes(report)]
    lines += _section("cannot be read", [f"{path}: {reason}" for path, reason in report.broken], "photos")
    lines += _section("with the same content", _groups(report.duplicates), "groups of files")
    lines += _section("that look the same", _groups(report.near_duplicates), "groups of photos")
    lines += _section("in more than one of training, validation and test", _groups(report.leaks), "groups")
    lines += _section("of the same content in more than one class", _groups(report.contradictions), "groups")
    lines += _section("with a side below 32 pixels", report.tiny, "photos")
    lines += [
        f"classes out of balance{f' in {part}' if part else ''}: the largest has {ratio:.1f} times the photos of the "
        "smallest"
        for part, ratio in report.unbalanced.items()
    ]
    empty = [name for classes in report.counts.values() for name, count in classes.items() if not count]
    lines += _section("without photos", empty, "classes")
    if report.modes:
        lines.append("modes other than RGB and grey: " + ", ".join(f"{n} {mode}" for mode, n in report.modes.items()))
    if report.rotated:
        lines.append(f"{report.rotated} photos are turned as EXIF says")
    if report.others:
        lines.append("left out: " + ", ".join(f"{count} files {suffix}" for suffix, count in report.others.items()))
    return lines if len(lines) > 1 + len(_classes(report)) else [*lines, "nothing is wrong with them"]


def _classes(report: FolderReport) -> list[str]:
    """A table of classes and parts; of many classes the smallest and the largest."""
    parts = list(report.counts)
    names = list(dict.fromkeys(name for classes in report.counts.values() for name in classes))
    names.sort(key=lambda name: sum(report.counts[part].get(name, 0) for part in parts))
    if len(names) > 2 * _LISTED:
        names = [*names[:_LISTED], *names[-_LISTED:]]
    heading = ("class", *(part or "photos" for part in parts))
    rows = [heading, *((name or "none", *(str(report.counts[part].get(name, 0)) for part in parts)) for name in names)]
    return as_table(rows, left={0}).splitlines()


def _groups(groups: Sequence[Sequence[str]]) -> list[str]:
    return [" = ".join(group[:3]) + (f" = … ({len(group) - 3} more)" if len(group) > 3 else "") for group in groups]


def _section(what: str, entries: Sequence[str], unit: str) -> list[str]:
    if not entries:
        return []
    more = [f"  … {len(entries) - _LISTED} more: --json lists all"] if len(entries) > _LISTED else []
    return [f"{len(entries)} {unit} {what}:", *(f"  {entry}" for entry in entries[:_LISTED]), *more]

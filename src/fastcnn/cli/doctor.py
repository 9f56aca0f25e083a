"""`fastcnn doctor`: is this installation sound on this machine?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from fastcnn._table import Columns
from fastcnn.config import config
from fastcnn.doctor import run_checks


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = "example: fastcnn doctor"
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the configuration and the result of every check; 1 where one fails."""
    results = run_checks()
    passed = all(result.passed for result in results)
    if options.json:
        print(json.dumps({"config": config(), "passed": passed, "checks": [asdict(r) for r in results]}, indent=2))
        return 0 if passed else 1
    for topic, text in config().items():
        print(f"{topic}: {text}")
    print("\nkernels against reference.py (largest error, as a part of what rounding explains)")
    columns = Columns([5, 8, 12, 32, 4], left={1, 2, 3}, gap=" ")
    for result in results:
        mark = "ok  " if result.passed else "FAIL"
        print(" " + columns.line([mark, result.isa, f"{result.threads} thread(s)", result.name, f"{result.error:.2f}"]))
    print("all kernels are right" if passed else "some kernels are WRONG on this machine: please report it")
    return 0 if passed else 1

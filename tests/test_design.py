"""The pages for contributors show the house as it is: CONTRIBUTING.md's tree and the picture of the floors."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fastcnn.compiler.compile import PASSES

ROOT = Path(__file__).parents[1]
PICTURE = runpy.run_path(str(ROOT / "docs" / "draw_floors.py"))


def test_contributing_lists_all_rooms_in_floor_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = re.search(r"```\nsrc/fastcnn/\n(.*?)\ncsrc/", text, re.DOTALL)[1]
    rooms = re.findall(r"(?m)^  ((?:\w+(?:\.py|/)\s+)+)", tree)
    listed = [name for line in rooms for name in re.findall(r"\w+(?=\.py|/)", line)]
    floor_of = {room: number for number, floor in enumerate(PICTURE["floors"]()) for room in floor if room != "csrc"}
    places = [floor_of[room] for room in listed if room in floor_of]
    assert places == sorted(places)
    assert set(floor_of) <= set(listed)


def test_the_picture_of_the_floors_is_drawn_from_the_imports():
    assert (ROOT / "docs" / "floors.svg").read_text(encoding="utf-8") == PICTURE["drawn"]()


DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```console\n\$ (?:FASTCNN_ISA=(\w+) )?python (.*?)\n(.*?)\n```", DESIGN, re.DOTALL)


def test_the_design_lists_the_passes_in_their_order():
    assert re.findall(r"(?m)^\| `(\w+)` \|", DESIGN) == [step.__name__ for step in PASSES]


@pytest.mark.parametrize(("isa", "arguments", "output"), SHOWN)
def test_what_the_design_shows_is_what_the_compiler_prints(isa, arguments, output):
    environment = {**os.environ, "FASTCNN_ISA": isa} if isa else os.environ
    command = [sys.executable, *shlex.split(arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (result.returncode, result.stdout.rstrip()) == (0, output)

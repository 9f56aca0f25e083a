"""The snippets of docs/distributed.md run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"


def test_snippets_of_the_page_run(nodes, tmp_path, monkeypatch, capsys):
    snippets = re.findall(r"```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 4
    names = {"__name__": "__main__"}
    for snippet in snippets:
        exec(compile(snippet, PAGE.name, "exec"), names)
    output = capsys.readouterr().out
    assert "learning_rate" in output and "'rate'" in output and "labels" in output

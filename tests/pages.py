"""What README and pages show: the blocks of their code, which tests run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def text_of(name):
    """The text of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text, language):
    """The blocks of code in a language: python, or sh."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(block):
    """The commands of a block, without comments."""
    return [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]

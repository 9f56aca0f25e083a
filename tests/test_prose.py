"""Comments, docstrings and pages are plain: sentences of at most 25 words, without words that hide a meaning."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 25  # words of a sentence
VAGUE = re.compile(r"\b(so many|of these|together|whole|such(?! as\b))\b", re.IGNORECASE)
GENERATED = {"_build", "generated", "tutorials"}  # of docs/, by Sphinx
FILES = sorted(
    path
    for folder in ("src", "csrc", "tests", "tools", "benchmarks", "examples", "docs", ".")
    for path in (ROOT / folder).glob("*" if folder == "." else "**/*")
    if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".h", ".c", ".md"}
    and not (path.suffix == ".c" and path.with_suffix(".pyx").exists())  # Cython made it
    and path.name != "onnx.md"  # lists of operators
    and not (folder == "docs" and GENERATED & set(path.relative_to(ROOT).parts))
)


def python_texts(source: str) -> Iterator[str]:
    """Docstrings, and comments; comments on lines that follow each other are one text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    text, row, column = "", 0, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            words = token.string.lstrip("# ")
            if token.start == (row + 1, column):
                text += " " + words
            else:
                yield text
                text = words
            row, column = token.start
    yield text


def texts(path: Path) -> list[str]:
    """All prose of a file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix in {".py", ".pyi"}:
        return list(python_texts(source))
    if path.suffix in {".h", ".c"}:
        return [re.sub(r"\n\s*\* ?", "\n", text) for text in re.findall(r"/\*(.*?)\*/", source, re.DOTALL)]
    if path.suffix == ".md":
        source = re.sub(r"```.*?```|(?m:^\|.*$)|(?<=\])\([^)]*\)", "", source, flags=re.DOTALL)
        return [source]
    comments = re.findall(r"(?m)((?:^[ \t]*#.*\n)+|#.*$)", source)
    return [re.sub(r"(?m)^\s*# ?", "", text) for text in comments] + re.findall(r'"""(.*?)"""', source, re.DOTALL)


def sentences(text: str) -> Iterator[str]:
    """Sentences, without code, formulas, headings and the boundaries of lists."""
    text = re.sub(r"(?ms)^\s*>>> .*?(?=^\s*$|\Z)", "", text)  # examples, and what they print
    text = re.sub(r"(?<=::\n)(\n| {4,}.*\n?)+", "", text)
    text = re.sub(r"(?m)^[*\w]+(?:, [*\w]+)* : ", "\n\n", text)  # numpydoc's names of parameters
    for paragraph in re.split(r"\n\s*\n|\n\s*[-*] |\n(?=\w+ : )|\n-{3,}\n|\n#+ .*", text):
        plain = re.sub(r"`[^`]*`", "X", " ".join(paragraph.split()))
        yield from re.split(r"(?<=[.:;?!])\s+", plain)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_plain(path):
    found = [sentence for text in texts(path) for sentence in sentences(text)]
    assert not [sentence for sentence in found if len(re.findall(r"[A-Za-z][\w'-]*", sentence)) > LONGEST]
    assert not [sentence for sentence in found if VAGUE.search(sentence)]

"""What the documents say is run: snippets of README and pages, commands of the README, every doctest of the package."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex

import pytest
from pages import ROOT, blocks, text_of

import fastcnn
from fastcnn.cli import main

README = text_of("README.md")
SNIPPETS = blocks(README, "python")
PAGES = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs" / "api").glob("*.md"))
ON_RAY = (pytest.mark.ray, pytest.mark.filterwarnings("default"))
ON_PAGES = [
    pytest.param(
        page.name,
        snippet,
        id=f"{page.stem}: {snippet.strip().splitlines()[-1]}",
        marks=ON_RAY if page.stem == "distributed" else (),
    )
    for page in PAGES
    for snippet in blocks(text_of(page), "python")
]
BUILT = {
    "tutorials/index": "GALLERY_HEADER.rst"
}  # pages that Sphinx makes, and the files of examples/ that they come from
SHELL = [line for block in blocks(README, "sh") for line in block.splitlines()]
MODULES = [
    module.name
    for module in pkgutil.walk_packages(fastcnn.__path__, "fastcnn.")
    if not module.name.endswith("__main__")
]


@pytest.fixture(autouse=True)
def in_a_copy_of_the_project(tmp_path, monkeypatch):
    """Examples read examples/ and photos/, with a cat and a dog, and may write files."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name, photo in (("cat", "cat.png"), ("dog", "coffee.png")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "photos" / name / f"{i}.png").symlink_to(ROOT / "examples" / photo)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.splitlines()[0])
def test_readme_snippets_run(snippet, capsys):
    exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


@pytest.mark.parametrize(("page", "snippet"), ON_PAGES)
def test_snippets_of_pages_run(page, snippet):
    exec(compile(snippet, page, "exec"), {"__name__": "__main__"})


def test_readme_has_just_the_two_commands_that_ci_runs():
    assert SHELL == [
        'pip install ".[imagenet]" && fastcnn classify examples/cat.png',
        'pip install ".[test]" && pytest',
    ]
    script = text_of(".ci/run")
    for part in (part.strip() for line in SHELL for part in line.split("&&")):
        assert re.search(rf"(^|&& ){re.escape(part)}( |$)", script, re.MULTILINE), part


def test_readme_command_line_examples_run(capsys):
    commands = [command for command in re.findall(r"`(fastcnn [^`]*)`", README) if "photos/" not in command]
    assert commands, "the README shows commands"
    for command in [*commands, SHELL[0].split("&& ")[1]]:
        if shlex.split(command)[1] != "bench":  # takes a while, and has a test of its own
            assert main(shlex.split(command)[1:]) == 0, command
    assert "tiger cat" in capsys.readouterr().out


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_links_of_pages_lead_somewhere():
    """To files, headings, or tutorials of examples/; addresses of other sites are not asked for."""
    for page in PAGES:
        text = re.sub(r"```.*?```|`[^`]*`", "", text_of(page), flags=re.DOTALL)
        for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            name = BUILT.get(target, target.replace("tutorials/", "") + ".py")
            path = ROOT / "examples" / name if target.startswith("tutorials/") else page.parent / target
            assert path.is_file(), (page, target)
            titles = re.findall(r"(?m)^#+ (.*)$", text_of(path)) if heading else []
            assert not heading or heading in [title.lower().replace(" ", "-") for title in titles], (page, heading)


def test_every_page_is_in_a_table_of_contents():
    listed = set(re.findall(r"(?m)^([\w/]+)$", "".join(map(text_of, PAGES))))
    assert {page.stem for page in PAGES} - {"index"} <= {name.rpartition("/")[2] for name in listed}


@pytest.mark.parametrize("name", ["fastcnn", *MODULES])
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_public_names_are_documented_with_an_example():
    """Every public function has a docstring that shows it at work."""
    for module in (fastcnn.functional, fastcnn.layers, fastcnn.zoo):
        for name in module.__all__:
            assert getattr(module, name).__doc__, f"{module.__name__}.{name}"
    for name in fastcnn.functional.__all__:
        assert ">>>" in getattr(fastcnn.functional, name).__doc__, name

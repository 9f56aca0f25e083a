"""The studio as people use it, in Chromium: ``pytest -m browser``.

The first test goes from two folders of photos to a classifier in a file, by clicks alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files

import pytest
from browsing import LONG, Studio, drop, make_patterns, opened_browser
from PIL import Image

pytestmark = pytest.mark.browser

ENDED = "Failed to load resource: net::ERR_"  # as the test has ended the server, or killed it
AREAS = ("photos", "photos/check", "train", "understand", "understand/001/lesson", "understand/001/layers", "use")


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser):
    """visit(address, ...): a page that must not fail, ask other servers, or try what its policy forbids."""
    contexts, faults = [], []

    def open_page(studio, area="photos", **settings):
        usual = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce"}
        context = browser.new_context(**{**usual, **settings})
        contexts.append(context)
        context.set_default_timeout(LONG)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)
        own = (studio.root, "data:", f"blob:{studio.root}")
        page.on("request", lambda request: None if request.url.startswith(own) else faults.append(request.url))
        page.goto(studio.address)
        page.wait_for_selector("h1")
        show(page, studio, area)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not fault.startswith(ENDED)] == []


def show(page, studio, area):
    page.goto(f"{studio.root}#{area}")
    page.wait_for_selector("h1")


def wait_for_counts(page, expected):
    """Wait until the cards of the classes show these numbers of photos."""
    script = """wanted => JSON.stringify([...document.querySelectorAll('.class-card[data-class]')].map(
        card => [card.dataset.class, parseInt(card.querySelector('.count').textContent)])) === wanted"""
    page.wait_for_function(script, arg=json.dumps(list(map(list, sorted(expected.items()))), separators=(",", ":")))


def train(page, studio):
    """Press the button, and wait for the accuracy."""
    show(page, studio, "train")
    page.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_selector(".run .status.training")
    page.wait_for_selector(".run .status.done")
    figure = page.locator(".run .figures div", has_text="Accuracy").locator("dd").first.inner_text()
    return float(figure.split()[0]) / 100


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    return make_patterns(tmp_path_factory.mktemp("patterns"), 14)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, patterns):
    """A project with one run, trained by the command that the page calls."""
    from fastcnn.studio.listing import listing_of
    from fastcnn.studio.runs import Runs

    folder = tmp_path_factory.mktemp("trained") / "photos"
    paths = make_patterns(folder, 13)
    paths["stripes"][-1].rename(folder / "dots" / "stripes-wrong.jpg")
    paths["dots"][-1].unlink()
    (folder / ".fastcnn" / "runs").mkdir(parents=True)
    run = Runs(folder / ".fastcnn" / "runs").start(folder, listing_of(folder), {"network": "small_cnn", "epochs": 6})
    run._process.wait(LONG / 1000)
    with Studio(folder) as studio:
        yield studio


def test_from_two_folders_of_photos_to_a_classifier(visit, patterns, tmp_path):
    """Make a project, train, read the accuracy, click a cell, see a heat map, edit the filter, export, classify."""
    with Studio(tmp_path / "project") as studio:
        page = visit(studio, accept_downloads=True)
        for name, paths in patterns.items():
            page.get_by_role("button", name="New class").first.click()
            page.get_by_label("What do its photos show?").fill(name)
            page.get_by_role("button", name="Make class").click()
            drop(page, page.locator(f'.class-card[data-class="{name}"]'), paths[2:])
        wait_for_counts(page, {"dots": 12, "stripes": 12})

        assert train(page, studio) >= 0.9

        page.get_by_role("link", name="Understand", exact=True).last.click()
        cell = page.locator("table.matrix button.cell.right").first
        behind = int(cell.inner_text())
        assert behind > 0
        cell.click()
        page.wait_for_selector("#behind .shot")
        assert page.locator("#behind .shot").count() == behind
        page.locator("#behind .shot").first.click()
        heat = page.locator("dialog .heat")
        heat.wait_for()
        assert heat.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert page.locator("dialog .bars li").count() == 2
        page.keyboard.press("Escape")

        page.get_by_role("link", name="How it works").click()
        page.wait_for_function("() => document.querySelector('#main [data-filter]')")
        before = page.locator(".sum strong").first.inner_text()
        page.get_by_label("Place of the filter").fill("300")
        page.get_by_label("Filter, row 1, column 1").fill("5")
        page.wait_for_function(
            "() => JSON.parse(document.querySelector('#main [data-filter]').dataset.filter)[0][0] === 5"
        )
        assert page.locator(".sum strong").first.inner_text() != before
        page.locator(".weights-row figure").first.wait_for()

        page.get_by_role("link", name="Use", exact=True).last.click()
        drop(page, page.locator("#try"), patterns["stripes"][:1])
        assert page.locator("#main .bars li").first.inner_text().startswith("stripes")
        saved = {}
        for title, suffix in (("safetensors", ".safetensors"), ("ONNX", ".onnx")):
            with page.expect_download() as download:
                page.get_by_role("button", name=f"Save as {title}").click()
            saved[suffix] = tmp_path / f"model{suffix}"
            download.value.save_as(saved[suffix])
            assert download.value.suggested_filename == f"run-1{suffix}"
    for model in saved.values():
        for name, paths in patterns.items():
            command = [sys.executable, "-m", "fastcnn", "classify", "--json", "--model", str(model), str(paths[0])]
            told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LONG / 1000).stdout
            assert json.loads(told)[0]["predictions"][0]["label"] == name, told


def test_folders_become_classes_and_every_change_is_undone(visit, patterns, tmp_path):
    source = tmp_path / "source"
    make_patterns(source, 3)
    with Studio(tmp_path / "project") as studio:
        page = visit(studio)
        drop(page, page.locator(".hero"), [source / "dots", source / "stripes"])
        wait_for_counts(page, {"dots": 3, "stripes": 3})
        page.get_by_role("button", name="dots", exact=True).click()  # whose photos alone are shown
        drop(page, page.locator("h1"), [source / "stripes"])  # a folder goes to its own class all the same
        wait_for_counts(page, {"dots": 3, "stripes": 6})
        drop(page, page.locator("h1"), [patterns["dots"][0]])  # and a photo to the class that is shown
        wait_for_counts(page, {"dots": 4, "stripes": 6})
        for expected in ({"dots": 3, "stripes": 6}, {"dots": 3, "stripes": 3}):
            page.keyboard.press("Control+z")
            wait_for_counts(page, expected)
        page.get_by_role("button", name="All classes").click()
        page.get_by_role("listbox").focus()  # by the keyboard: the first two, to the other class
        page.keyboard.press("Space")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        page.get_by_label("Move to class").select_option("stripes")
        wait_for_counts(page, {"dots": 1, "stripes": 5})
        page.get_by_role("button", name="Rename stripes").click()
        page.get_by_label("A new name for").fill("lines")
        page.get_by_role("button", name="Rename", exact=True).click()
        wait_for_counts(page, {"dots": 1, "lines": 5})
        page.get_by_role("listbox").focus()
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        wait_for_counts(page, {"dots": 0, "lines": 0})
        for expected in ({"dots": 1, "lines": 5}, {"dots": 1, "stripes": 5}, {"dots": 3, "stripes": 3}):
            page.keyboard.press("Control+z")
            wait_for_counts(page, expected)


def test_photos_come_from_the_webcam_and_by_pasting(visit, tmp_path):
    with Studio(tmp_path / "project") as studio:
        page = visit(studio, permissions=["camera"])
        page.get_by_role("button", name="New class").first.click()
        page.get_by_label("What do its photos show?").fill("me & you")
        page.get_by_role("button", name="Make class").click()
        page.get_by_role("button", name="Webcam for me & you").click()
        page.wait_for_function("() => document.querySelector('video')?.videoWidth > 0")
        trigger = page.get_by_role("button", name="Take photos")
        trigger.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog .strip img")
        page.get_by_role("button", name="Keep them").click()
        wait_for_counts(page, {"me & you": 1})
        page.evaluate("""async () => {
            const canvas = Object.assign(document.createElement('canvas'), { width: 50, height: 50 });
            canvas.getContext('2d').fillRect(5, 5, 20, 20);
            const content = await new Promise((resolve) => canvas.toBlob(resolve));
            const transfer = new DataTransfer();
            transfer.items.add(new File([content], 'pasted.png', { type: 'image/png' }));
            document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true }));
        }""")
        wait_for_counts(page, {"me & you": 2})


def test_two_windows_see_each_other_and_do_not_overwrite(visit, trained):
    first, second = visit(trained), visit(trained)
    wait_for_counts(second, {"dots": 13, "stripes": 12})
    first.get_by_role("button", name="New class").first.click()
    first.get_by_label("What do its photos show?").fill("other")
    first.get_by_role("button", name="Make class").click()
    wait_for_counts(second, {"dots": 13, "other": 0, "stripes": 12})  # told by the server, without a click
    second.get_by_role("button", name="Undo: made class other").click()
    wait_for_counts(first, {"dots": 13, "stripes": 12})


def test_runs_stand_side_by_side_and_are_used_as_the_page_tells(visit, tmp_path):
    """Two at once, their curves in one picture; then the lines of Python that the page shows, as they are."""
    folder = tmp_path / "project"
    paths = make_patterns(folder, 8)
    with Studio(folder) as studio:
        page = visit(studio, "train", accept_downloads=True)
        page.get_by_text("Settings").click()
        page.get_by_label("Network").select_option("small_cnn")
        page.get_by_label("Epochs").fill("3")
        for name in ("First", "Second"):
            page.get_by_label("Name of the run").fill(name)
            page.get_by_role("button", name="Train", exact=True).click()
            page.locator("table.runs tbody tr", has_text=name).wait_for()
        page.wait_for_function("() => document.querySelectorAll('table.runs .status.done').length === 2")
        for name in ("First", "Second"):
            page.get_by_label(f"Compare {name}").check()
        lines = page.locator("section", has=page.locator("table.runs")).locator("svg polyline.line")
        assert lines.count() == 2
        show(page, studio, "use/001")
        code, *_ = page.locator(".snippet code").all_inner_texts()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as safetensors").click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
        (tmp_path / "photo.jpg").write_bytes(paths["dots"][0].read_bytes())
        command = [sys.executable, "-c", code]
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LONG / 1000)
        assert told.returncode == 0 and sorted(line.partition(":")[0] for line in told.stdout.splitlines()) == [
            "dots",
            "stripes",
        ], told.stderr
        show(page, studio, "train")
        page.locator("table.runs tr", has_text="First").get_by_role("button", name="Take away").click()
        page.get_by_role("button", name="Take away", exact=True).last.click()
        page.locator("table.runs tr", has_text="First").wait_for(state="detached")


def test_a_killed_server_loses_nothing(visit, tmp_path):
    make_patterns(tmp_path / "project", 8)
    studio = Studio(tmp_path / "project")
    page = visit(studio, "train")
    page.get_by_text("Settings").click()
    page.get_by_label("Network").select_option("small_cnn")
    page.get_by_label("Epochs").fill("4000")
    page.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_selector(".run .figures dd")
    page.goto("about:blank")
    studio.kill()
    with Studio(tmp_path / "project") as again:
        page = visit(again, "train")
        page.wait_for_selector(".run .status.training")  # the training has gone on meanwhile
        page.get_by_role("button", name="Stop").click()
        page.wait_for_selector(".run .status.stopped")
        assert "%" in page.locator(".run .figures dd").first.inner_text()
        page.get_by_role("button", name="Continue").click()
        page.wait_for_selector(".run .status.training")
        page.get_by_role("button", name="Stop").click()
        page.wait_for_selector(".run .status.stopped")


def test_thousands_of_photos_are_few_elements(visit, tmp_path):
    folder = tmp_path / "project"
    (folder / "many").mkdir(parents=True)
    Image.new("RGB", (32, 32), (90, 60, 200)).save(folder / "many" / "0000.jpg")
    for number in range(1, 5000):
        os.link(folder / "many" / "0000.jpg", folder / "many" / f"{number:04}.jpg")
    with Studio(folder) as studio:
        page = visit(studio)
        page.wait_for_selector(".tile")
        assert page.locator(".tile").count() < 200
        assert page.locator(".tile").first.get_attribute("aria-setsize") == "5000"
        page.get_by_role("listbox").focus()
        page.keyboard.press("End")
        page.get_by_role("option", name="4999.jpg, many").wait_for()
        assert page.locator(".tile").count() < 200


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_it(visit, trained, theme, width):
    """axe-core finds nothing serious, and nothing is wider than the screen."""
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page = visit(trained, viewport={"width": width, "height": 844}, color_scheme=theme)
    for area in AREAS:
        show(page, trained, area)
        settle(page, area)
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        serious = [
            (area, fault["id"], node["target"], node["failureSummary"])
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, area


def settle(page, area):
    """Wait until an area shows what it has to."""
    shown = {
        "photos": ".tile img", "photos/check": ".card", "train": ".run", "understand": "table.matrix",
        "understand/001/lesson": ".weights-row figure", "understand/001/layers": ".maps img", "use": "#try",
    }  # fmt: skip
    page.wait_for_selector(f"#main {shown[area]}")


def test_the_check_names_a_label_that_is_wrong(visit, trained):
    """A photo of stripes among the dots is found after a training, and moved by a click."""
    page = visit(trained, "photos/check")
    wrong = page.locator(".wrongs li", has_text="stripes-wrong")
    wrong.get_by_text("is in dots, looks like stripes").wait_for()
    wrong.get_by_role("button", name="Move to stripes").click()
    wrong.wait_for(state="detached")
    show(page, trained, "photos")
    wait_for_counts(page, {"dots": 12, "stripes": 13})
    page.get_by_role("button", name="Undo: moved 1 photo to stripes").click()
    wait_for_counts(page, {"dots": 13, "stripes": 12})

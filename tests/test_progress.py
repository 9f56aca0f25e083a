"""Progress on stderr: tqdm's bar or a plain line, on a terminal and in a file, and nothing where it is not wanted."""

from __future__ import annotations

import io
import sys

import pytest

from fastcnn._progress import Pace, Progress, walk


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self):
        return True


def two_batches(wanted):
    with Progress("epoch 1/2", 8, wanted) as progress:
        progress.update(4, loss=0.5)
        progress.update(4, loss=0.25)
        progress.show(loss=0.375, accuracy=1.0)


@pytest.fixture(params=[Terminal, io.StringIO])
def replaced(request, monkeypatch):
    """Puts another stderr in place: in the test itself, as pytest sets its own after the fixtures."""

    def replace():
        monkeypatch.setattr(sys, "stderr", request.param())
        return sys.stderr

    return replace


def test_bar(replaced):
    stderr = replaced()
    two_batches(None)
    assert bool(stderr.getvalue()) == stderr.isatty()
    two_batches(True)
    if stderr.isatty():
        assert "8/8" in stderr.getvalue() and "loss=0.3750, accuracy=1.0000" in stderr.getvalue()
    else:
        assert stderr.getvalue() == "epoch 1/2 loss=0.3750 accuracy=1.0000\n"


@pytest.mark.parametrize("tqdm", [True, False])
def test_the_time_that_a_run_has_left(replaced, monkeypatch, tqdm):
    stderr = replaced()
    if not tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    times = iter([0.0, *(60.0 * i for i in range(1, 10))])
    pace = Pace(3, now=lambda: next(times))
    for epoch in range(2):
        with Progress(f"epoch {epoch + 1}/3", 8, None, lines=True, pace=pace, walks=epoch) as progress:
            progress.update(4, loss=0.5)
            progress.update(4, loss=0.5)
            progress.show(loss=0.5)
    text = stderr.getvalue()
    # An epoch in three minutes, two of them left, and then one.
    assert "left=6:00" in text and "left=3:00" in text
    assert stderr.isatty() or text == "epoch 1/3 loss=0.5000 left=6:00\nepoch 2/3 loss=0.5000 left=3:00\n"


@pytest.mark.parametrize("stream", [None, "closed", "full"])
def test_a_stderr_that_takes_nothing_stops_nothing(stream, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", {None: None, "closed": closed, "full": Full()}[stream])
    two_batches(True)
    two_batches(None)


def test_nothing_where_it_is_not_wanted(replaced):
    stderr = replaced()
    two_batches(False)
    assert list(walk("ab", "reading", False, "letters")) == ["a", "b"]
    assert stderr.getvalue() == ""


def test_plain_line(replaced, monkeypatch):
    stderr = replaced()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    two_batches(True)
    last = "epoch 1/2 loss=0.3750 accuracy=1.0000"
    counted = ["epoch 1/2 4 of 8 images loss=0.5000", "epoch 1/2 8 of 8 images loss=0.2500", last]
    assert stderr.getvalue() == ("".join("\r" + line for line in counted) if stderr.isatty() else last) + "\n"


def test_shorter_lines_write_over_longer_ones(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("a", None, None) as progress:
        progress.update(1, loss=0.5)
        progress.show()
    assert sys.stderr.getvalue() == "\ra 1 images loss=0.5000\ra" + " " * 21 + "\n"


def test_walk_counts_what_is_done(replaced, monkeypatch):
    stderr = replaced()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    walked = walk([10, 20], "reading", True, "files")
    assert next(walked) == 10 and stderr.getvalue() == ""
    assert list(walked) == [20]
    text = "\rreading 1 of 2 files\rreading 2 of 2 files\n" if stderr.isatty() else "reading 2 of 2 files\n"
    assert stderr.getvalue() == text

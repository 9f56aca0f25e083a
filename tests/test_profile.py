"""Profiles: every step once, sums that fit, tables and files that others can read."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import fastcnn
from fastcnn.profile import measure_bandwidth


@pytest.fixture(scope="module")
def profile():
    model = fastcnn.Sequential(
        fastcnn.Conv2d(3, 16, 3, padding=1),
        fastcnn.ReLU(),
        fastcnn.MaxPool2d(3, 2),
        fastcnn.Flatten(),
        fastcnn.Linear(16 * 15 * 15, 20),
    )
    return model.profile(np.ones((2, 3, 32, 32)), repeats=3)


def test_steps(profile):
    steps = {step.name: step for step in profile.steps if step.kernel not in ("reorder", "copy")}
    assert list(steps) == ["0", "2", "4"]
    assert steps["0"].fused == ("1",) and set(steps["0"].reasons) > {"im2col"}
    assert steps["0"].operations == 2 * 2 * 16 * 32 * 32 * 27
    assert steps["4"].operations == 2 * 2 * 20 * 16 * 15 * 15
    assert steps["0"].bytes == 4 * (2 * 3 * 32 * 32 + 16 * 27 + 16 + 2 * 16 * 32 * 32)
    for step in profile.steps:
        assert step.seconds > 0 and step.percent >= 0 and step.limit in ("arithmetic", "memory")
        limits = {"arithmetic": step.operations / profile.peak, "memory": step.bytes / profile.bandwidth}
        assert step.percent == pytest.approx(100 * max(limits.values()) / step.seconds)
    assert profile.seconds > 0 and profile.peak > 1e8 and profile.bandwidth > 1e8
    assert profile.threads >= 1 and profile.isa in fastcnn.kernels._cpu.available_isas()


def test_text_and_json(profile):
    lines = str(profile).splitlines()
    assert len(lines) == len(profile.steps) + 4 and lines[0].split()[:3] == ["step", "kernel", "ms"]
    assert json.loads(json.dumps(profile.to_dict()))["steps"][-1]["name"] == profile.steps[-1].name


def test_picture(profile, tmp_path):
    pytest.importorskip("matplotlib")
    profile.plot(tmp_path / "roofline.svg")
    assert "GFLOP/s" in (tmp_path / "roofline.svg").read_text()


def test_picture_without_matplotlib(profile, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastcnn\[plot\]"'):
        profile.plot(tmp_path / "roofline.svg")


def test_batches_in_parts_show_one_part():
    model = fastcnn.Sequential(fastcnn.Conv2d(64, 64, 3, padding=1), fastcnn.ReLU())
    x = np.ones((16, 64, 56, 56), np.float32)
    found = model.profile(x, repeats=1)
    assert model._compiled(16, x).plan.parts == 16
    assert [step.operations for step in found.steps if step.kernel == "winograd"] == [2 * 64 * 56 * 56 * 64 * 9]


def test_bad_arguments():
    model = fastcnn.Sequential(fastcnn.Linear(2, 2))
    for x, repeats in ((np.ones((0, 2)), 1), (np.ones((1, 2)), 0)):
        with pytest.raises(ValueError, match="profile: (len|repeats)"):
            model.profile(x, repeats)


def test_bandwidth_is_measured_on_several_threads():
    assert measure_bandwidth(2, megabytes=8) > 1e8

"""Does anything work at all? A few seconds, before every commit: import, kernels, a prediction, a training step."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import functional as F
from fastcnn import reference
from fastcnn.kernels import _cpu


def small_network():
    return fc.Sequential(
        fc.Conv2d(1, 20, 3, padding=1),
        fc.BatchNorm2d(20),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Flatten(),
        fc.Linear(20 * 16, 2),
    )


def test_convolution_is_exact_on_integers(isa):
    rng = np.random.default_rng(0)
    x, weight = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((2, 19, 13, 11), (21, 19, 3, 3)))
    expected = reference.conv2d(x, weight, pads=(1, 1, 1, 1))
    np.testing.assert_array_equal(F.conv2d(x, weight, padding=1, algorithm="direct"), expected)


def test_a_network_learns_and_predicts(tmp_path):
    x = np.random.default_rng(0).random((32, 1, 8, 8)).astype(np.float32)
    y = np.arange(32) % 2
    x[y == 1, :, :4] += 1
    model = small_network()
    history = model.fit(x, y, epochs=3, seed=0)
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "a.safetensors").predict_proba(x), model.predict_proba(x))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have one instruction set here")
def test_all_instruction_sets_of_the_processor_are_used():
    """As the system lists them: a module that was linked wrongly knows only the portable one, and is slow."""
    flags = re.findall(r"\w+", re.search(r"(?m)^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text())[1])
    needs = {"avx512": {"avx512f", "avx2", "fma"}, "avx2": {"avx2", "fma"}, "generic": set()}
    assert _cpu.available_isas() == [isa for isa, wanted in needs.items() if wanted <= set(flags)]

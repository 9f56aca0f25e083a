"""Arguments of any kind, to every public function: an error that tells what was expected, and never a signal.

The functional API's own are in test_functional_arguments.py; what is called, and with what, in junk.py.
"""

from __future__ import annotations

import os
import subprocess
import sys

import junk
import pytest

EXAMPLES = {
    "layers": 2_500,
    "model": 1_800,
    "training": 2_500,
    "io": 2_400,
    "explain": 600,
    "estimator": 500,
    "top": 300,
}


@pytest.mark.parametrize("area", EXAMPLES)
def test_bad_arguments_give_named_errors(area, budget):
    push = EXAMPLES[area]
    nightly = 10 * push  # in all areas 100 000
    seed = budget(0, int.from_bytes(os.urandom(4), "little"))
    command = [sys.executable, junk.__file__, area, str(budget(push, nightly)), str(seed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=budget(600, 36_000), env=environment)
    wrong = [line for line in result.stdout.splitlines() if line.startswith("WRONG")]
    assert not wrong and result.returncode == 0, (seed, result.returncode, wrong, result.stdout[-200:], result.stderr)


def test_every_public_name_is_called():
    """What has no call of its own in junk.py is named here, with the reason."""
    import fastcnn as fc

    called = {label.partition(".")[0] for calls in junk.AREAS.values() for label, _ in calls()}
    called |= set(fc.functional.__all__)  # test_functional_arguments.py's
    bases = {"Layer", "Model"}  # of which the others are
    values = {"Prediction", "FastcnnWarning", "ImageError", "ModelLoadError", "__version__"}
    without_arguments = {"get_include", "get_num_threads", "show_config"}
    modules = {
        "distributed",
        "explain",
        "functional",
        "layers",
        "quantization",
        "reference",
        "serving",
        "training",
        "zoo",
    }
    assert set(fc.__all__) - called - bases - values - without_arguments - modules == set()


def test_the_program_sees_what_is_wrong():
    found: dict[str, str] = {}
    junk.examine("broken", lambda value: value.nothing, 20, 0, found)
    assert any("AttributeError" in where for where in found)

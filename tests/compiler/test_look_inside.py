"""The compiler shows what each pass makes of a model: `python -m fastcnn.compiler`."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastcnn
from fastcnn.compiler.__main__ import main
from fastcnn.compiler.compile import PASSES

PASS_NAMES = [step.__name__ for step in PASSES]


@pytest.fixture
def model_file(tmp_path):
    """Convolution, normalisation, ReLU, pooling and a matrix product."""
    model = fastcnn.Sequential(
        fastcnn.Conv2d(3, 8, 3, padding=1, rng=0),
        fastcnn.BatchNorm2d(8),
        fastcnn.ReLU(),
        fastcnn.MaxPool2d(2),
        fastcnn.Dropout(0.5),
        fastcnn.Flatten(),
        fastcnn.Linear(8 * 16, 5, rng=1),
    )
    model.input_shape = (3, 8, 8)
    model.save(tmp_path / "net.safetensors")
    return str(tmp_path / "net.safetensors")


def shown(capsys, *arguments: str) -> str:
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def operations(text: str) -> list[str]:
    """The second column of a table."""
    _, _, *rows = text.splitlines()
    return [row.split()[1] for row in rows if not row.startswith("    ")]


def test_every_pass_is_named_in_its_order(capsys, model_file):
    text = shown(capsys, model_file)
    headings = [line.split(":")[0] for line in text.splitlines() if line.startswith(("given", "after "))]
    assert headings == ["given", *(f"after {name}" for name in PASS_NAMES)]
    assert "after expand: nothing to do" in text.splitlines()


def test_one_pass_alone(capsys, model_file):
    given, folded, fused = (shown(capsys, model_file, "--after", name) for name in ("given", "fold", "fuse"))
    assert operations(given) == ["Conv", "BatchNormalization", "Relu", "MaxPool", "Dropout", "Flatten", "Gemm"]
    assert operations(folded) == ["Conv", "Relu", "MaxPool", "Flatten", "Gemm"] and "scaled by 1" in folded
    assert operations(fused) == ["Conv", "MaxPool", "Flatten", "Gemm"] and "then Relu; has taken in 2" in fused
    assert "1x8x8x8" in fused and "1x5" in fused


def test_choices_have_reasons_and_values_their_layout_and_place(capsys, model_file, isa):
    chosen = shown(capsys, model_file, "--after", "choose_algorithms")
    assert "    not depthwise: not depthwise: 3 channels to 8 in 1 groups" in chosen.splitlines()
    placed = shown(capsys, model_file, "--after", "place")
    assert placed.splitlines()[1].split() == ["node", "operation", "reads", "output", "stored", "memory", "decided"]
    assert "arena 0" in placed and "plain" in placed and "output" in placed.splitlines()[-1]


def test_a_training_step(capsys, model_file):
    text = shown(capsys, model_file, "--training", "--after", "fuse", "--batch", "3")
    found = operations(text)
    assert {"BatchNormTraining", "DropoutTraining", "CrossEntropyGrad", "ConvGradWeight", "Update"} <= set(found)
    assert "3x8x8x8" in text
    packed = shown(capsys, model_file, "--training", "--after", "pack_weights")
    assert "PackWeights" in operations(packed) and "packs its weights" in packed and "parameter" in packed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no such model"], "'no such model' is neither a file nor a model"),
        (["lenet", "--after", "nothing"], "--after='nothing', expected one of given, use_bytes, fold_constants"),
        (["lenet", "--batch", "0"], "--batch=0, expected at least 1"),
        (["lenet", "--size", "1"], "kernel_size"),
    ],
)
def test_errors_are_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and len(output.err.splitlines()) == 1
    assert output.err.startswith("fastcnn.compiler: ") and message in output.err


def test_as_a_program():
    command = [sys.executable, "-m", "fastcnn.compiler", "lenet", "--after", "fuse"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert operations(result.stdout) == ["Conv", "MaxPool", "Conv", "MaxPool", "Flatten", "Gemm", "Gemm", "Gemm"]

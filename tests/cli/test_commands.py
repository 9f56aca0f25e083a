"""The command line: results on stdout, complaints on stderr, exit codes that scripts can rely on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import doctor, zoo
from fastcnn.cli import _shapes, bench, main
from fastcnn.io.image import Preprocess
from fastcnn.io.weights import write_safetensors
from fastcnn.kernels import _cpu

EXAMPLES = Path(__file__).parents[2] / "examples"
CAT, COFFEE = str(EXAMPLES / "cat.png"), str(EXAMPLES / "coffee.png")


@pytest.fixture(autouse=True)
def threads_restored():
    yield
    fastcnn.set_num_threads(None)


def predictions(text):
    return {entry["path"]: entry.get("predictions") for entry in json.loads(text)}


def test_classify_names_the_cat_and_the_coffee(capsys):
    assert main(["classify", CAT, COFFEE, "--json", "--threads", "2"]) == 0
    found = predictions(capsys.readouterr().out)
    assert [p["index"] for p in found[CAT][:3]] == [282, 285, 281]
    assert found[COFFEE][0]["index"] == 967 and found[COFFEE][0]["probability"] > 0.8
    assert set(found[CAT][0]) == {"index", "label", "probability"} and len(found[CAT]) == 5
    assert fastcnn.get_num_threads() == 2


def test_classify_as_text(capsys):
    assert main(["classify", CAT, "--top", "1"]) == 0
    path, best = capsys.readouterr().out.splitlines()
    assert path == CAT and best.endswith("%  tiger cat")


def test_folders_and_patterns_and_bad_photos(capsys, tmp_path):
    shutil.copy(CAT, tmp_path / "eine Katze\n.png")
    shutil.copy(COFFEE, tmp_path / "b.png")
    (tmp_path / "bad.png").write_bytes(b"no photo")
    code = main(["classify", str(tmp_path), str(tmp_path / "b*.png"), str(tmp_path / "none.png"), "--json"])
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert code == 1
    assert sorted(Path(entry["path"]).name for entry in found) == ["b.png", "bad.png", "eine Katze\n.png", "none.png"]
    assert sorted(Path(e["path"]).name for e in found if "error" in e) == ["bad.png", "none.png"]
    assert "bad.png" in output.err and "none.png" in output.err


def test_only_bad_photos_print_nothing_on_stdout(capsys):
    assert main(["classify", "no-such-photo.jpg"]) == 1
    output = capsys.readouterr()
    assert output.out == "" and "no-such-photo.jpg" in output.err


def test_a_saved_model_is_used(capsys, tmp_path):
    model = zoo.efficientnet_lite0(num_classes=2)
    model.classes = ["left", "right"]
    model.preprocess = zoo.load_pretrained("efficientnet_lite0").preprocess
    model.save(tmp_path / "two.safetensors")
    assert main(["classify", CAT, "--model", str(tmp_path / "two.safetensors"), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert {p["label"] for p in entry["predictions"]} == {"left", "right"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", CAT, "--model", "resnet50"], "no trained weights"),
        (["classify", CAT, "--model", "nothing"], "neither a file nor a model"),
        (["classify", CAT, "--model", CAT], "cat.png"),
        (["classify", CAT, "--top", "0"], "--top: 0, expected a whole number from 1"),
        (["classify", CAT, "--threads", "0"], "--threads: 0, expected a whole number from 1 to 1024"),
        (["classify"], "PHOTO"),
        (["info", "nothing"], "neither a file nor a model"),
        (["fly"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_what_cannot_run_exits_with_2(arguments, message, capsys):
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and message in output.err


def test_a_model_without_preprocess_says_what_to_do(capsys, tmp_path):
    zoo.lenet().save(tmp_path / "lenet.safetensors")
    assert main(["classify", CAT, "--model", str(tmp_path / "lenet.safetensors")]) == 2
    assert "preprocess" in capsys.readouterr().err


def test_missing_pillow_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert main(["classify", CAT]) == 2
    assert 'pip install "fastcnn[images]"' in capsys.readouterr().err


def test_ctrl_c_exits_with_130(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastcnn.cli.classify.trained_model", interrupted)
    assert main(["classify", CAT]) == 130


def test_info(capsys):
    assert main(["info", "lenet"]) == 0
    assert "61,706" in capsys.readouterr().out
    assert main(["info", "lenet", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["parameters"] == 61_706 and data["input_shape"] == [1, 28, 28]
    assert {"direct", "gemm", "pool"} <= {layer["kernel"] for layer in data["layers"]}


def test_profile(capsys, tmp_path, monkeypatch):
    picture = tmp_path / "roofline.png"
    assert main(["info", "lenet", "--profile", "--batch", "2", "--threads", "1", "--plot", str(picture)]) == 0
    assert "of limit" in capsys.readouterr().out and picture.read_bytes().startswith(b"\x89PNG")
    assert main(["info", "lenet", "--profile", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert {"conv1", "conv2", "fc1"} <= {step["name"] for step in steps}
    with monkeypatch.context() as patch:  # a place that cannot be written costs no measurement
        patch.setattr("fastcnn.Model.profile", lambda *_: pytest.fail("was measured"))
        assert main(["info", "lenet", "--profile", "--plot", str(tmp_path / "ghost" / "roofline.png")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["info", "lenet", "--size", "0"]) == 2
    assert "--size=0, expected one or two whole numbers" in capsys.readouterr().err
    assert main(["info", "lenet", "--profile", "--batch", "0"]) == 2
    assert "--batch: 0, expected a whole number from 1" in capsys.readouterr().err


def test_tune(capsys, tmp_path):
    tuned = tmp_path / "tuned.safetensors"
    assert main(["tune", "squeezenet1_1", "-o", str(tuned), "--repeats", "1", "--json"]) == 0
    choices = json.loads(capsys.readouterr().out)
    assert fastcnn.load(tuned).tuning == choices
    assert set(choices.values()) <= {"direct", "winograd", "winograd2", "winograd_lean"}
    assert main(["tune", str(tuned), "--repeats", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(choices)


def test_tune_shows_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["tune", "lenet", "--repeats", "1", "--json"]) == 0
    output = capsys.readouterr()
    assert "tuning" in output.err and "algorithms" in output.err and json.loads(output.out)


def test_doctor(capsys):
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] and {check["isa"] for check in data["checks"]} == set(_cpu.available_isas())
    assert main(["doctor"]) == 0
    assert "all kernels are right" in capsys.readouterr().out


def test_doctor_notices_a_wrong_kernel(capsys, monkeypatch):
    wrong = [("relu", lambda x: x, doctor.reference.relu, 0)]
    monkeypatch.setattr(doctor, "_ELEMENTWISE", wrong)
    assert main(["doctor"]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_bench(capsys, monkeypatch):
    monkeypatch.setattr(bench, "LAYERS", _shapes.LAYERS[-1:])
    assert main(["bench", "--json", "--threads", "1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["algorithm"] for row in data["rows"]} == {"direct", "im2col", "NumPy"} and data["threads"] == 1
    assert main(["bench"]) == 0
    assert "LeNet" in capsys.readouterr().out


@pytest.mark.parametrize("layer", _shapes.LAYERS, ids=lambda layer: layer.name)
def test_bench_compares_equal_things(layer):
    results = [call() for call in bench.candidates(layer).values()]
    for result in results[1:]:
        assert np.linalg.norm(result - results[0]) <= 2e-5 * np.linalg.norm(results[0])
    assert layer.operations == 2 * results[0].size * layer.ins // layer.groups * layer.kernel**2


def test_module_script_and_version():
    command = [sys.executable, "-m", "fastcnn", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == (
        f"fastcnn {fastcnn.__version__}\n"
    )


def test_every_command_has_help_with_an_example(capsys):
    for command in ("classify", "info", "convert", "doctor", "bench"):
        assert main([command, "--help"]) == 0
        assert f"example: fastcnn {command}" in capsys.readouterr().out


def test_a_closed_pipe_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fastcnn", "info", "lenet"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert result.returncode == 1 and result.stderr == ""


def test_convert_to_onnx_and_back_and_classify_with_labels(capsys, tmp_path):
    net, back, labels = (str(tmp_path / name) for name in ("net.onnx", "net.safetensors", "labels.txt"))
    assert main(["convert", "squeezenet1_1", net]) == 0 and main(["convert", net, back]) == 0
    x = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    np.testing.assert_allclose(fastcnn.load(back)(x), zoo.build("squeezenet1_1")(x), rtol=1e-5, atol=1e-6)
    assert main(["info", net]) == 0
    assert "GlobalAveragePool" in capsys.readouterr().out
    Path(labels).write_text("".join(f"class {i}\n" for i in range(1000)), encoding="utf-8")
    options = ["--labels", labels, "--mean", "0.485,0.456,0.406", "--std", "0.2", "--size", "224", "--top", "1"]
    assert main(["classify", "--model", net, CAT, "--json", *options]) == 0
    model = fastcnn.load(net)
    model.preprocess = Preprocess(224, 0.875, "bicubic", (123.675, 116.28, 103.53), (51.0,) * 3)
    (best,) = model.classify(CAT, 1)
    assert predictions(capsys.readouterr().out)[CAT][0]["label"] == f"class {best.index}"


def test_convert_weights_of_an_architecture(capsys, tmp_path):
    model = zoo.build("lenet", num_classes=3, rng=5)
    weights, net = tmp_path / "weights.safetensors", tmp_path / "net.onnx"
    write_safetensors(weights, {f"module.{name}": array for name, array in model.state_dict().items()})
    assert main(["convert", str(weights), str(net), "--architecture", "lenet", "--classes", "3"]) == 0
    x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    assert (fastcnn.load(net)(x) == model(x)).all()
    assert main(["convert", str(weights), str(net), "--architecture", "lenet"]) == 2
    assert "shape (3, 84), expected (10, 84)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "lenet", "net.pdf"], "expected a name that ends in .onnx or .safetensors"),
        (["convert", "nothing", "net.onnx"], "neither a file nor a model"),
        (["classify", "--model", "efficientnet_lite0", "--size", "1.5", CAT], "--size=1.5, expected"),
        (["classify", "--model", "efficientnet_lite0", "--mean", "1,2", CAT], "--mean: 2 numbers, expected one or"),
        (["classify", "--labels", "ghost.txt", CAT], "ghost.txt"),
    ],
)
def test_wrong_use_of_models_is_told(capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err

"""Photos that a cluster classifies have the answers of one process, also where processes die, and files go on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastcnn as fc
from fastcnn.cli import main
from fastcnn.distributed import classify
from fastcnn.training.folders import preprocess_for

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

PART = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(45):
        Image.fromarray(rng.integers(0, 255, (50, 60, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    (folder / "007.png").write_bytes(b"no photo")
    (folder / os.fsdecode(b"name \xff.png")).write_bytes((folder / "000.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def model():
    model = fc.zoo.small_cnn(num_classes=3, rng=0)
    model.preprocess, model.classes = preprocess_for(model.input_shape), ["a", "b", "c"]
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(path)
    return str(path)


@pytest.fixture(scope="module")
def alone(folder, saved):
    """The answers of one process, in the order of the paths."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        assert main(["classify", "--model", saved, "--top", "2", "--format", "jsonl", str(folder)]) == 1
    return [json.loads(line) for line in text.getvalue().splitlines()]


def as_answers(rows):
    found = []
    for row in rows:
        if row["error"] is not None:
            found.append({"path": row["path"], "error": row["error"]})
            continue
        columns = zip(row["indices"], row["labels"], row["probabilities"], strict=True)
        named = [{"index": int(i), "label": label, "probability": float(share)} for i, label, share in columns]
        found.append({"path": row["path"], "predictions": named})
    return sorted(found, key=lambda answer: answer["path"])


def shown(answers):
    """As rows have them: names that are no UTF-8 are escaped, and probabilities are float32."""
    found = json.loads(json.dumps(answers))
    for answer in found:
        answer["path"] = os.fsencode(answer["path"]).decode("utf-8", "backslashreplace")
        for entry in answer.get("predictions", ()):
            entry["probability"] = float(np.float32(entry["probability"]))
    return sorted(found, key=lambda answer: answer["path"])


def classifiers():
    """The processes that classify."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if b"ray::MapWorker" in Path("/proc", pid, "cmdline").read_bytes():
                yield int(pid)


def test_rows_are_the_answers_of_one_process_though_a_process_dies(nodes, folder, model, alone):
    def kill():
        """Kill the first process that classifies."""
        for _ in range(600):
            for pid in classifiers():
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    rows = classify(folder, model, top=2, part=PART, workers=2, threads=1).take_all()
    killer.join()
    assert as_answers(rows) == shown(alone)


def test_files_go_on_where_an_earlier_call_ended(nodes, folder, model, saved, alone, tmp_path, capsys):
    output = tmp_path / "answers"
    settings = {"top": 2, "output": output, "format": "jsonl", "part": PART, "workers": 1, "threads": 1}
    assert classify(folder, model, **settings).count() == len(alone)
    parts = sorted(output.glob("part-*.jsonl"))
    answers = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    expected = shown(alone)
    for answer in answers:
        for entry in answer.get("predictions", ()):
            entry["probability"] = float(np.float32(entry["probability"]))
    assert len(parts) == 5 and sorted(answers, key=lambda answer: answer["path"]) == expected
    before = {part: part.stat().st_mtime_ns for part in parts}
    parts[2].unlink()
    classify(folder, model, **settings)
    assert [part for part in parts if part.stat().st_mtime_ns != before[part]] == [parts[2]]
    with pytest.raises(ValueError, match=r"classify: output=.*: its answers are of top=2, got 3: give another folder"):
        classify(folder, model, **{**settings, "top": 3})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(ValueError, match="the folder holds other files, expected a new or an empty one"):
        classify(folder, model, **{**settings, "output": tmp_path / "full"})


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_files_of_every_kind_have_a_row_for_each_photo(nodes, folder, model, alone, tmp_path, kind):
    rows = classify(
        folder, model, top=1, output=tmp_path / kind, format=kind, part=PART, workers=1, threads=1
    ).take_all()
    assert len(list((tmp_path / kind).glob(f"part-*.{kind}"))) == 5
    assert sorted(row["path"] for row in rows) == [answer["path"] for answer in shown(alone)]
    assert sum(bool(row["error"]) for row in rows) == sum("error" in answer for answer in alone) == 1


def test_weights_are_mapped_from_the_object_store(nodes):
    """Ray gives arrays that nobody can write, as all processes of a machine have the same."""
    found = nodes.ray.get(nodes.ray.put(fc.zoo.resnet20(rng=0)))
    assert not any(array.flags.writeable or array.flags.owndata for _, array in found.named_parameters())


def test_the_command_prints_what_it_prints_without_a_cluster(nodes, folder, saved, alone, capsys):
    arguments = ["classify", "--model", saved, "--top", "2", str(folder), "no-such.png", "--workers", "2", "--ray"]
    assert main([*arguments[:-1], "--format", "csv", "--threads", "1", "--ray"]) == 1
    output = capsys.readouterr()
    rows = list(csv.DictReader(output.out.splitlines()))
    assert "no-such.png" in output.err and rows[0]["path"] == "no-such.png" and rows[0]["error"]
    named = {(row["path"], row["label"]) for row in rows if row["label"]}
    assert named == {(a["path"], e["label"]) for a in shown(alone) for e in a.get("predictions", ())}


def test_data_sets_of_bytes_are_classified(nodes, folder, model, alone):
    import ray

    paths = sorted(str(path) for path in folder.glob("00*.png"))
    data = ray.data.read_binary_files(paths, include_paths=True, override_num_blocks=1)
    rows = classify(data, model, top=2, workers=1, threads=1).take_all()
    expected = [answer for answer in shown(alone) if answer["path"] in paths]
    found = as_answers(rows)
    assert [answer for answer in found if "error" not in answer] == [a for a in expected if "error" not in a]
    assert [answer["path"] for answer in found if "error" in answer] == [str(folder / "007.png")]


def test_memory_does_not_grow_with_the_number_of_photos(nodes, model, tmp_path, request):
    counts = (100, 10_000) if request.config.getoption("--nightly") else (60, 240)
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    sizes = []
    for count in counts:
        folder = tmp_path / f"{count}"
        folder.mkdir()
        for i in range(count):
            os.link(tmp_path / "photo.png", folder / f"{i:06d}.png")
        peak = 0
        for i, _ in enumerate(classify(folder, model, workers=1, threads=1, part=20).iter_rows()):
            if i % 20 == 0:
                peak = max([peak, *map(peak_of, classifiers())])
        sizes.append(peak)
    assert 0 < sizes[1] < 1.2 * sizes[0] + (30 << 20)


def peak_of(pid):
    """The most memory that a process has had, in bytes."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc", str(pid), "status").read_text())
        return 1024 * int(found[1]) if found else 0
    return 0

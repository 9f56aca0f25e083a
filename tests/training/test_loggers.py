"""Loggers: what they write is the history."""

from __future__ import annotations

import csv
import json
import sys
import types

import numpy as np
import pytest

import fastcnn as fc
from fastcnn.training import CSVLogger, JSONLinesLogger, MLflowLogger, TensorBoardLogger

X, Y = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32), np.arange(20) % 2


def fit(*callbacks, **settings):
    return fc.Sequential(fc.Linear(4, 2, rng=0)).fit(X, Y, epochs=3, validation=0.2, callbacks=callbacks, **settings)


def test_files_hold_the_history(tmp_path):
    paths = tmp_path / "log.csv", tmp_path / "log.jsonl"
    for _ in range(2):
        history = fit(CSVLogger(paths[0]), JSONLinesLogger(paths[1]))
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in paths[1].read_text().splitlines()]
    assert len(rows) == 3 and len(lines) == 6  # the one is begun anew, the other goes on
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == values == [line[name] for line in lines[3:]]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]


def test_a_line_is_written_before_the_next_epoch(tmp_path):
    path = tmp_path / "log.csv"

    def stop(run):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fit(CSVLogger(path), stop)
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger])
def test_a_place_that_cannot_be_written_is_told_before_the_first_step(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match="ghost"):
        fit(lambda run: pytest.fail("an epoch was done"), kind(tmp_path / "ghost" / "log"))


def test_thin_ones_pass_the_numbers_on(tmp_path, monkeypatch):
    """Stand-ins for tensorboardX and mlflow."""
    calls = []

    class SummaryWriter:
        def __init__(self, folder):
            calls.append(("folder", folder))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def flush(self):
            calls.append("flush")

    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="TensorBoardLogger needs tensorboardX"):
        TensorBoardLogger(tmp_path)
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "mlflow", None)
        with pytest.raises(ImportError, match="MLflowLogger needs mlflow"):
            MLflowLogger()
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    flow = types.SimpleNamespace(
        log_params=lambda settings: calls.append(settings),
        log_metrics=lambda numbers, step: calls.append((numbers, step)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", flow)
    history = fit(TensorBoardLogger(tmp_path), MLflowLogger())
    assert calls[0] == ("folder", str(tmp_path)) and calls[-1] == "flush"
    assert ("validation_loss", history["validation_loss"][1], 2) in calls
    assert ({name: values[2] for name, values in history.items()}, 3) in calls
    assert {"optimizer": repr(fc.Adam()), "loss": repr(fc.CrossEntropy()), "epochs": 3} in calls

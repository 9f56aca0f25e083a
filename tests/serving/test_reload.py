"""Files that are replaced are loaded again; what is no model changes nothing."""

from __future__ import annotations

import pickle

import pytest
from serving.asking import Held, client, photo, served, small_model
from serving.test_batches import until

import fastcnn as fc


def labels(answer):
    assert answer.status_code == 200, answer.text
    return {one["label"] for one in answer.json()["results"][0]["predictions"]}


@pytest.fixture
def path(tmp_path):
    small_model(0, ("a", "b")).save(tmp_path / "pets.safetensors")
    return tmp_path / "pets.safetensors"


def test_a_replaced_file_answers(path):
    application = served(path)
    with client(application) as ask:
        assert labels(ask.post(content=photo())) == {"a", "b"} and not application.service.reload_changed()
        small_model(1, ("c", "d", "e")).save(path)
        assert application.service.reload_changed() == ["pets"] and not application.service.reload_changed()
        assert labels(ask.post(content=photo())) == {"c", "d", "e"}
        assert ask.get("/v1/model").json()["version"] == 2
        assert 'fastcnn_reloads_total{model="pets",result="done"} 1' in ask.get("/metrics").text


def test_it_is_noticed_without_being_asked(path):
    application = served(path, reload_seconds=0.01)
    with client(application) as ask:
        assert labels(ask.post(content=photo())) == {"a", "b"}
        small_model(1, ("c", "d")).save(path)
        until(lambda: application.service.models["pets"].version.number == 2)
        assert labels(ask.post(content=photo())) == {"c", "d"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"no model"),
        lambda path: path.write_bytes(pickle.dumps({"a": 1})),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: fc.zoo.lenet().save(path),  # takes no photos
    ],
    ids=["text", "pickle", "half", "without preprocess"],
)
def test_what_is_no_model_changes_nothing(spoil, path, caplog):
    application = served(path)
    with client(application) as ask:
        spoil(path)
        assert application.service.reload_changed() == [] and "is not taken over" in caplog.text
        assert labels(ask.post(content=photo())) == {"a", "b"}
        assert 'result="failed"} 1' in ask.get("/metrics").text
        small_model(1, ("c", "d")).save(path)
        assert application.service.reload_changed() == ["pets"]


def test_a_file_that_is_gone_changes_nothing(path):
    application = served(path)
    with client(application) as ask:
        path.unlink()
        assert application.service.reload_changed() == []
        assert labels(ask.post(content=photo())) == {"a", "b"}


def test_what_waits_is_answered_by_the_model_that_it_came_for(path, monkeypatch):
    application = served(path)
    served_one = application.service.models["pets"]
    with client(application) as ask:
        held = Held(monkeypatch)
        before = [ask.later("POST", "/v1/classify", content=photo(i)) for i in range(3)]
        assert held.entered.wait(60)
        until(lambda: served_one.batcher._coming == 0 and served_one.batcher.pending == 3)
        held.go_on.set()
        small_model(1, ("c", "d")).save(path)
        application.service.reload_changed()
        assert [labels(one.result(60)) for one in before] == [{"a", "b"}] * 3
        assert labels(ask.post(content=photo())) == {"c", "d"}


def test_a_file_overwritten_in_place_does_not_reach_the_old_model(path):
    """All weights are in memory once it serves."""
    application = served(path)
    with client(application) as ask:
        before = ask.post(content=photo()).json()
        with path.open("r+b") as file:
            size = path.stat().st_size
            file.seek(size // 2)
            file.write(b"\xff" * (size - size // 2))
        application.service.models["pets"].version.model._cache.forget_plans()
        assert ask.post(content=photo()).json() == before


def test_pickles_are_refused_at_the_start(tmp_path):
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(fc.ModelLoadError):
        served(tmp_path / "model.pth")

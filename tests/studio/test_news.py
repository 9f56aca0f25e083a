"""What pages are told of changes, whatever the order in which they hear and ask."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgi_client import Client
from photo_folders import make_photos

from fastcnn._web import Policy
from fastcnn.studio import app as app_module
from fastcnn.studio.app import Studio
from fastcnn.studio.project import Project

LOOKS = 3  # of the server, after which what is new was told


class Stage:
    """A run whose status a test sets."""

    id, status = "001", "stopped"

    def summary(self):
        return {"id": self.id, "status": self.status}


@pytest.fixture
def studio(tmp_path, monkeypatch):
    monkeypatch.setattr(app_module, "_PAUSE", 0.001)
    monkeypatch.setattr(app_module, "_GLANCE", 0.0)
    project = Project(make_photos(tmp_path / "photos", 3, ("cat", "dog")))
    yield Studio(project, Policy("the-token-of-the-tests"))
    project.close()


@pytest.fixture
def client(studio):
    client = Client(studio.app)
    client.get("/", params={"token": "the-token-of-the-tests"})
    return client


class Window:
    """A page that listens."""

    def __init__(self, studio, loop):
        self._changes, self._loop = studio._changes(), loop

    def told(self):
        """What it is told within some looks of the server, by event."""

        async def heard():
            found, looks = {}, 0
            while looks < LOOKS:
                text = await anext(self._changes)
                if text.startswith(":"):
                    looks += 1
                else:
                    event, data = text.strip().split("\n")
                    found[event.removeprefix("event: ")] = json.loads(data.removeprefix("data: "))
            return found

        return self._loop.run_until_complete(heard())


@pytest.fixture
def window(studio):
    loop = asyncio.new_event_loop()
    window = Window(studio, loop)
    yield window
    loop.run_until_complete(window._changes.aclose())
    loop.close()


def test_a_run_that_changes_and_changes_back_is_news(studio, client, window, monkeypatch):
    """Continue and Stop between two looks: a page has seen it training meanwhile, and must hear that it has stopped."""
    run = Stage()
    monkeypatch.setattr(studio.runs, "all", lambda: [run])
    assert window.told()["run"]["status"] == "stopped"
    assert window.told() == {}
    run.status = "training"
    (seen,) = client.get("/api/state").json()["runs"]
    run.status = "stopped"
    told = window.told()["run"]
    assert (seen["status"], told["status"]) == ("training", "stopped") and told["number"] > seen["number"]


def test_photos_that_change_and_change_back_are_news(studio, client, window):
    before = window.told()["photos"]
    studio.project.create_class("bird")
    assert client.get("/api/state").json()["version"] != before["version"]
    studio.project.undo()
    assert window.told()["photos"] == before


def test_runs_that_come_and_go_are_news(studio, client, window, monkeypatch):
    assert window.told()["runs"] == []
    monkeypatch.setattr(studio.runs, "all", lambda: [Stage()])
    client.get("/api/state")
    monkeypatch.setattr(studio.runs, "all", list)
    assert window.told()["runs"] == []

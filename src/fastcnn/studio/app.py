"""The routes of the studio, behind the guard of _web/. What they do is up to the other modules of this folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from fastcnn._names import readable
from fastcnn._web import Guard, Policy, Refused, as_upload
from fastcnn._web.answers import refusal_as_answer
from fastcnn.studio.asked import Asked, attachment, picture, route
from fastcnn.studio.jobs import Jobs
from fastcnn.studio.models import Models
from fastcnn.studio.news import News
from fastcnn.studio.project import Project
from fastcnn.studio.runs import Run, Runs
from fastcnn.studio.thumbnails import thumbnail

if TYPE_CHECKING:
    import numpy as np

    from fastcnn.studio.lesson import Lesson
    from fastcnn.studio.listing import Listing

__all__ = ["Studio"]

STATIC = Path(__file__).with_name("static")
_PAUSE = 0.25  # seconds between looks at what has changed
_GLANCE = 1.5  # seconds between looks at the folder, which others may change, too


class Studio:
    """An ASGI application for one project.

    Parameters
    ----------
    project : Project
    policy : Policy
        Who may ask.
    """

    def __init__(self, project: Project, policy: Policy) -> None:
        self.project, self.policy = project, policy
        self.runs = Runs(project.state / "runs")
        self._jobs, self._models, self._news = Jobs(), Models(), News()
        self._lesson: Lesson | None = None
        self._is_closing = False
        app = Starlette(routes=self._routes(), exception_handlers={Refused: refusal_as_answer})
        self.app = Guard(app, policy)

    def _routes(self) -> list[BaseRoute]:
        return [
            Route("/", _page),
            Route("/api/events", self._events),
            route("/api/state", "GET", self._state),
            route("/api/classes", "POST", lambda asked: {"name": self.project.create_class(asked.json().get("name"))}),
            route("/api/classes/rename", "POST", self._rename),
            route("/api/classes/remove", "POST", self._remove_class),
            route("/api/photos", "POST", self._add),
            route("/api/photos/move", "POST", self._move),
            route("/api/photos/remove", "POST", self._remove),
            route("/api/photos/{photo}/thumb", "GET", self._thumb),
            route("/api/undo", "POST", self._undo),
            route("/api/check", "GET", self._check),
            route("/api/lesson", "POST", self._explain),
            route("/api/lesson/decide", "POST", self._decide),
            route("/api/runs", "POST", self._train),
            route("/api/runs/{run}/stop", "POST", lambda asked: self._run(asked).stop()),
            route("/api/runs/{run}/continue", "POST", lambda asked: self._run(asked).begin()),
            route("/api/runs/{run}/remove", "POST", self._remove_run),
            route("/api/runs/{run}/examined", "GET", self._examined),
            route("/api/runs/{run}/thumb/{index:int}", "GET", self._run_thumb),
            route("/api/runs/{run}/look", "POST", self._look),
            route("/api/runs/{run}/layers", "GET", self._layers),
            route("/api/runs/{run}/export/{format}", "GET", self._export),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    # -- photos ---------------------------------------------------------------------------------------

    def _state(self, asked: Asked) -> dict[str, Any]:
        """All that a page needs to begin with."""
        from fastcnn.studio.choices import networks

        listing = self.project.listing()
        number_of = {label: number for number, label in enumerate(listing.classes)}
        return {
            "csrf": self.policy.csrf,
            "folder": _short(self.project.root),
            **self._of_photos(listing),
            "classes": [{"name": label, "count": listing.counts[label]} for label in listing.classes],
            "photos": [
                [
                    photo.id,
                    number_of[photo.label],
                    photo.part,
                    readable(photo.path.rpartition("/")[2]),
                    photo.time % 10**9,
                ]
                for photo in listing.photos.values()
            ],
            "links": listing.links,
            "others": listing.others,
            "limits": {"photo": self.policy.limits.photo},
            "runs": self._of_runs(),
            **networks(),
        }

    def _of_photos(self, listing: Listing) -> dict[str, Any]:
        """What pages are told of photos; they ask for more where it is new."""
        told = {"version": listing.version, "undo": self.project.undoable()}
        self._news.number("photos", told)
        return told

    def _changed(self, **more: Any) -> dict[str, Any]:
        return {**self._of_photos(self.project.listing()), **more}

    def _rename(self, asked: Asked) -> dict[str, Any]:
        self.project.check_version(asked.version)
        names = asked.json()
        return self._changed(name=self.project.rename_class(str(names.get("name")), names.get("to")))

    def _remove_class(self, asked: Asked) -> dict[str, Any]:
        self.project.check_version(asked.version)
        self.project.remove_class(str(asked.json().get("name")))
        return self._changed()

    def _add(self, asked: Asked) -> dict[str, Any]:
        label, name, batch = asked.text("class"), asked.text("name"), asked.query.get("batch", "")
        if len(batch) > 40:
            raise Refused(400, "batch: expected at most 40 letters")
        upload = as_upload(asked.body, self.policy.limits, name[:80])
        return {"path": self.project.add(label, name, upload, batch)}

    def _move(self, asked: Asked) -> dict[str, Any]:
        self.project.check_version(asked.version)
        return self._changed(count=self.project.move(asked.keys(), str(asked.json().get("to"))))

    def _remove(self, asked: Asked) -> dict[str, Any]:
        self.project.check_version(asked.version)
        return self._changed(count=self.project.remove(asked.keys()))

    def _undo(self, asked: Asked) -> dict[str, Any]:
        self.project.check_version(asked.version)
        return self._changed(undone=self.project.undo())

    def _thumb(self, asked: Asked) -> Response:
        photo = self.project.photo(asked.path["photo"])
        key = f"{photo.id}-{photo.bytes}-{photo.time}"
        return picture(thumbnail(self.project.file(photo), key, self.project.state / "thumbs"))

    def _check(self, asked: Asked) -> dict[str, Any]:
        from fastcnn.studio.checks import checked

        listing = self.project.listing()
        return self._jobs.ask(("check", listing.version), lambda tell: checked(self.project, listing, tell))

    def _explain(self, asked: Asked) -> dict[str, Any]:
        return self._lesson_of_project().explain(*self._with_filter(asked))

    def _decide(self, asked: Asked) -> dict[str, Any]:
        return self._lesson_of_project().decide(*self._with_filter(asked))

    def _lesson_of_project(self) -> Lesson:
        from fastcnn.studio.lesson import Lesson

        if self._lesson is None:
            self._lesson = Lesson(self.project)
        return self._lesson

    def _with_filter(self, asked: Asked) -> tuple[Path, np.ndarray]:
        from fastcnn.studio.lesson import filter_of

        given = asked.json()
        filter_ = filter_of(given.get("filter"))
        return self.project.file(self.project.photo(str(given.get("photo")))), filter_

    # -- runs -----------------------------------------------------------------------------------------

    def _run(self, asked: Asked) -> Run:
        return self.runs[asked.path["run"]]

    def _of_run(self, run: Run) -> dict[str, Any]:
        told = run.summary()
        return {**told, "number": self._news.number(f"run {run.id}", told)}

    def _of_runs(self) -> list[dict[str, Any]]:
        found = [self._of_run(run) for run in self.runs.all()]
        self._news.number("runs", [run["id"] for run in found])
        return found

    def _train(self, asked: Asked) -> dict[str, Any]:
        return self._of_run(self.runs.start(self.project.root, self.project.listing(), asked.json()))

    def _remove_run(self, asked: Asked) -> None:
        self.runs.remove(asked.path["run"], self.project.state / "trash")

    def _examined(self, asked: Asked) -> dict[str, Any]:
        from fastcnn.studio.examined import examined

        run = self._run(asked)
        model, stamp = self._models.of(run)
        return self._jobs.ask(("examined", stamp), lambda tell: examined(run, model, stamp, tell))

    def _snapshot(self, run: Run, index: int) -> Path:
        """A photo that a run has learned from, by its number."""
        from fastcnn._web import inside
        from fastcnn.studio.examined import photos_of

        photos = photos_of(run)
        if not 0 <= index < len(photos):
            raise Refused(404, "photo: the run has none of this number")
        return inside(run.folder, "photos", *photos[index][0].split("/"))

    def _run_thumb(self, asked: Asked) -> Response:
        run, index = self._run(asked), int(asked.path["index"])
        return picture(thumbnail(self._snapshot(run, index), f"run{run.id}-{index}", self.project.state / "thumbs"))

    def _photo(self, asked: Asked, run: Run) -> Path | bytes:
        """The photo that a request is about: of the project, of the run, or in its body."""
        if "photo" in asked.query:
            return self.project.file(self.project.photo(asked.query["photo"]))
        if "index" in asked.query:
            number = asked.query["index"]
            return self._snapshot(run, int(number) if number.isascii() and number.isdigit() and len(number) < 9 else -1)
        return as_upload(asked.body, self.policy.limits).content

    def _look(self, asked: Asked) -> dict[str, Any]:
        from fastcnn.studio.looking import look

        run = self._run(asked)
        return look(self._models.of(run)[0], self._photo(asked, run), asked.query.get("label"))

    def _layers(self, asked: Asked) -> dict[str, Any]:
        from fastcnn.studio.looking import layer_pictures

        run = self._run(asked)
        model, stamp = self._models.of(run)
        photo = self._photo(asked, run)
        return self._jobs.ask(("layers", stamp, str(photo)), lambda tell: layer_pictures(model, photo))

    def _export(self, asked: Asked) -> Response:
        from fastcnn.studio.exports import exported

        run = self._run(asked)
        return attachment(*exported(run, self._models.of(run)[0], asked.path["format"]))

    # -- events ---------------------------------------------------------------------------------------

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._changes(), media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[str]:
        """Tell what has changed since this page was told last, also what has changed back meanwhile."""
        told: dict[str, int] = {}
        while not self._is_closing:
            for name, (number, value) in (await run_in_threadpool(self._now)).items():
                if told.get(name) != number:
                    told[name] = number
                    yield f"event: {name.partition(' ')[0]}\ndata: {json.dumps(value)}\n\n"
            yield ": here\n\n"  # a client that has gone is noticed
            await asyncio.sleep(_PAUSE)

    def close(self) -> None:
        """Let pages that listen for news go, so that the server can end."""
        self._is_closing = True

    def _now(self) -> dict[str, tuple[int, Any]]:
        """What there is to tell, by name, with its number."""
        photos, runs = self._of_photos(self.project.listing(_GLANCE)), self._of_runs()
        keys = [run["id"] for run in runs]
        return {
            "photos": (self._news.number("photos", photos), photos),
            "runs": (self._news.number("runs", keys), keys),
            **{f"run {run['id']}": (run["number"], run) for run in runs},
        }


def _short(path: Path) -> str:
    """A path as people write it: what is below their home begins with ~."""
    with suppress(ValueError, RuntimeError):
        return str(Path("~") / path.relative_to(Path.home()))
    return str(path)


async def _page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

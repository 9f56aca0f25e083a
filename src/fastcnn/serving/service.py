"""The service behind the routes: models by name, threads that decode, photos let in, and their answers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastcnn._names import meant
from fastcnn._web import Refused
from fastcnn.errors import ImageError
from fastcnn.kernels._cpu import get_num_threads
from fastcnn.model import Model
from fastcnn.serving.batcher import Item
from fastcnn.serving.bodies import Photo
from fastcnn.serving.lanes import Lanes
from fastcnn.serving.metrics import Metrics
from fastcnn.serving.served import ModelFile, Served, Version
from fastcnn.serving.settings import Settings
from fastcnn.training.answers import named_classes

__all__ = ["Service"]


class Service:
    """Models that answer.

    Parameters
    ----------
    sources : mapping of str to Model, path or ModelFile
        The first is asked where a request names none.
    settings : Settings
    """

    def __init__(self, sources: Mapping[str, Model | ModelFile | str | os.PathLike[str]], settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(lambda: [((served.name,), served.batcher.pending) for served in self.models.values()])
        self.models: dict[str, Served] = {}
        lanes = Lanes(settings.threads or get_num_threads())
        for name, source in sources.items():
            self.models[name] = Served(name, source, settings, self.metrics, lanes)
        self.is_stopping = False
        self._decoders: ThreadPoolExecutor | None = None
        self._owner = 0  # the process whose threads decode and watch: a forked one starts its own
        self._reading = 0
        self._stop = threading.Event()

    def find(self, name: str | None) -> Served:
        """Return a model; a name is looked up, and never becomes a path."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refused(404, f"model {name[:80]!r} is not served{meant(name, self.models)}")
        return self.models[name]

    # -- letting in ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, served: Served) -> Any:
        """Within it the body of a request is read; it counts as one photo until its own are known."""
        self._check_room(served, 1)
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1

    def _check_room(self, served: Served, count: int) -> None:
        if self.is_stopping:
            raise Refused(503, "the service stops", (("retry-after", "5"),))
        if served.batcher.pending + self._reading + count > self.settings.queue:
            raise self._full(served)

    def _full(self, served: Served) -> Refused:
        self.metrics.refused.add(1, served.name, "queue")
        seconds = math.ceil(served.batcher.pending * served.version.seconds_each) or 1
        text = f"{self.settings.queue} photos wait already, expected a try after {seconds} s"
        return Refused(429, text, (("retry-after", str(seconds)),))

    # -- answering -----------------------------------------------------------------------------------

    async def answers(self, served: Served, photos: Sequence[Photo], top: int | None) -> list[dict[str, Any]]:
        """Return an answer for each photo: predictions, or an error with its status.

        Raises
        ------
        Refused
            If there is no room, or the answers take too long.
        """
        if not served.batcher.expect(len(photos), self.settings.queue):
            if self.is_stopping:
                raise Refused(503, "the service stops", (("retry-after", "5"),))
            raise self._full(served)
        self.start()
        loop, version = asyncio.get_running_loop(), served.version
        futures = [loop.create_future() for _ in photos]
        items = [Item(version, _NOTHING, _Answer(loop, future)) for future in futures]
        assert self._decoders is not None
        for item, photo in zip(items, photos, strict=True):
            self._decoders.submit(self._decode, served, item, photo.content)
        try:
            rows = await asyncio.wait_for(asyncio.gather(*futures), self.settings.timeout)
        except asyncio.TimeoutError:
            self.metrics.refused.add(len(photos), served.name, "timeout")
            text = f"no answer within {self.settings.timeout:g} s"
            raise Refused(503, text, (("retry-after", "1"),)) from None
        finally:
            for item in items:
                item.is_wanted = False  # where it is answered, nobody asks
        return [self._answer(served, version, row, top) for row in rows]

    def _decode(self, served: Served, item: Item, content: bytes) -> None:
        """Decode a photo in a thread, and let it wait for its batch."""
        limits, version = self.settings.limits, item.version
        answer: Any = None
        try:
            if len(content) > limits.photo:
                answer = Refused(413, f"{len(content)} bytes, expected {limits.photo} at most")
            elif item.is_wanted:
                item.pixels = version.preprocess.pixels(content, max_pixels=limits.pixels)
                served.batcher.put(item)
                return
        except ImageError as error:
            answer = Refused(413 if "too large" in str(error) else 415, str(error).replace("the bytes", "the photo"))
        except Exception as error:
            answer = error
        served.batcher.forget(1)
        item.done(answer)

    def _answer(self, served: Served, version: Version, row: Any, top: int | None) -> dict[str, Any]:
        if isinstance(row, Refused):
            self.metrics.refused.add(1, served.name, "photo")
            return {"error": str(row), "status": row.status}
        if isinstance(row, Exception):
            raise row
        self.metrics.images.add(1, served.name)
        named = named_classes(version.model, row, top)
        return {
            "predictions": [
                {"index": one.index, "label": one.label, "probability": round(one.probability, 6)} for one in named
            ]
        }

    # -- threads -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads of this process, if they do not run yet."""
        if self._owner == os.getpid():
            return
        self._owner = os.getpid()
        self._decoders = ThreadPoolExecutor(self.settings.decoding_threads, thread_name_prefix="fastcnn-photos")
        if self.settings.reload_seconds and any(served.path is not None for served in self.models.values()):
            arguments = (weakref.ref(self), self._stop, self.settings.reload_seconds)
            threading.Thread(target=_watch, args=arguments, name="fastcnn-reload", daemon=True).start()

    def reload_changed(self) -> list[str]:
        """Load the files again that were replaced; return their models."""
        return [name for name, served in self.models.items() if served.reload_if_changed()]

    def close(self) -> None:
        """Refuse what comes, answer what waits, and end all threads."""
        self.is_stopping = True
        self._stop.set()
        if self._decoders is not None and self._owner == os.getpid():
            self._decoders.shutdown()
        for served in self.models.values():
            served.batcher.close()


_NOTHING = np.empty(0, np.uint8)


class _Answer:
    """Hands an answer from another thread to a future."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self._loop, self._future = loop, future

    def __call__(self, answer: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(self._set, answer)

    def _set(self, answer: Any) -> None:
        if not self._future.done():
            self._future.set_result(answer)


def _watch(reference: weakref.ref[Service], stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        service = reference()
        if service is None:
            return
        service.reload_changed()
        del service

"""Small models that are served, photos for them, and a client without a network."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from contextlib import contextmanager

import httpx
import numpy as np
from PIL import Image

import fastcnn as fc
from fastcnn.io.image import Preprocess
from fastcnn.serving import app
from fastcnn.serving.served import Version

HOST = "photos.test"
SIDE = 16


def small_model(seed=0, classes=("cat", "dog", "cup")):
    model = fc.zoo.small_cnn(rng=seed, image_size=SIDE, num_classes=len(classes))
    model.preprocess, model.classes, model.reproducible = Preprocess(size=SIDE), list(classes), True
    return model


def photo(seed=0, form="PNG", size=(20, 24)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def as_text(content):
    return base64.b64encode(content).decode()


def served(models=None, **settings):
    """An application in which one batch runs at a time, unless it is given more threads."""
    settings = {"max_batch": 4, "hosts": [HOST], "reload_seconds": 0, "threads": 1, **settings}
    return app(small_model() if models is None else models, **settings)


@contextmanager
def client(application):
    """Ask an application within this process; several threads may."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    class Client:
        def later(self, method, path, **how):
            async def ask():
                transport = httpx.ASGITransport(application, raise_app_exceptions=False)
                async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as one:
                    return await one.request(method, path, **how)

            return asyncio.run_coroutine_threadsafe(ask(), loop)

        def get(self, path, **how):
            return self.later("GET", path, **how).result(60)

        def post(self, path="/v1/classify", **how):
            return self.later("POST", path, **how).result(60)

    try:
        yield Client()
    finally:
        service = getattr(application, "service", None)
        if service is not None:
            service.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Held:
    """Inference that waits until it may go on, and tells the sizes of batches."""

    def __init__(self, monkeypatch):
        self.sizes, self.lanes, self.entered, self.go_on = [], [], threading.Event(), threading.Event()
        compute = Version.probabilities

        def held(version, photos, lanes):
            self.sizes.append(len(photos))
            self.lanes.append(lanes)
            self.entered.set()
            assert self.go_on.wait(60)
            return compute(version, photos, lanes)

        monkeypatch.setattr(Version, "probabilities", held)

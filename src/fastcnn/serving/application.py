"""The routes of a service, as an ASGI application of Starlette's behind the guard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastcnn._web import Guard, Policy, Refused
from fastcnn._web.answers import refusal_as_answer
from fastcnn.serving.bodies import photos_of
from fastcnn.serving.metrics import CONTENT_TYPE
from fastcnn.serving.openapi import description
from fastcnn.serving.service import Service

__all__ = ["Application"]

OPEN_PATHS = frozenset(["/healthz", "/readyz"])


class Application(Guard):
    """A service as an ASGI application; `service` is what answers.

    Parameters
    ----------
    service : Service
    policy : Policy
    """

    def __init__(self, service: Service, policy: Policy) -> None:
        self.service = service
        routes = [
            Route("/v1/classify", self._classify, methods=["POST"]),
            Route("/v1/model", self._model),
            Route("/v1/models", self._models),
            Route("/healthz", self._health),
            Route("/readyz", self._readiness),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
        ]
        handlers: Any = {Refused: refusal_as_answer}
        super().__init__(Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan), policy)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, self.service.close)

    async def _classify(self, request: Request) -> Response:
        start, status, name = perf_counter(), 500, ""
        metrics = self.service.metrics
        try:
            served = self.service.find(request.query_params.get("model"))
            name = served.name
            top = _top(request.query_params.get("top"))
            with self.service.reading(served):
                photos = await self._read(request)
            results = await self.service.answers(served, photos, top)
            for photo, result in zip(photos, results, strict=True):
                if photo.name is not None:
                    result["name"] = photo.name
            statuses = {result.pop("status", 200) for result in results}
            # Of several photos, one that is none spoils nothing; where none is one, the request was wrong.
            status = 200 if 200 in statuses else max(statuses)
            if status == 200 or len(results) > 1:
                return JSONResponse({"model": name, "results": results}, status)
            return JSONResponse({"error": results[0]["error"]}, status)
        except Refused as refusal:
            status = refusal.status
            raise
        finally:
            metrics.requests.add(1, name, str(status))
            metrics.seconds.observe(perf_counter() - start, name)

    async def _read(self, request: Request) -> Any:
        settings = self.service.settings
        try:
            return await asyncio.wait_for(photos_of(request, settings.limits), settings.timeout)
        except asyncio.TimeoutError:
            raise Refused(408, f"the body did not come within {settings.timeout:g} s") from None

    async def _model(self, request: Request) -> Response:
        return JSONResponse(self.service.find(request.query_params.get("model")).described())

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"models": [served.described() for served in self.service.models.values()]})

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readiness(self, request: Request) -> Response:
        stopping = self.service.is_stopping
        return JSONResponse({"status": "stopping" if stopping else "ready"}, 503 if stopping else 200)

    async def _metrics(self, request: Request) -> Response:
        return Response(self.service.metrics.text(), media_type=CONTENT_TYPE)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(description(self.service))


def _top(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 7 and int(text)):
        raise Refused(400, f"top={text[:20]!r}: expected a whole number from 1")
    return int(text)

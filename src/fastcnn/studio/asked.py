"""Requests as routes want them, and routes as Starlette wants them: plain functions that run in threads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastcnn._web import Refused

__all__ = ["Asked", "attachment", "picture", "route"]

_MOST_KEYS = 100_000  # photos in a request


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes
    ----------
    path, query : mapping of str to str
    body : bytes
    version : str, or None
        Of the listing that the client has seen.
    """

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    version: str | None

    def json(self) -> dict[str, Any]:
        """Return the object in the body.

        Raises
        ------
        Refused
            With status 400, if there is none.
        """
        try:
            value = json.loads(self.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise Refused(400, "body: expected JSON") from error
        if not isinstance(value, dict):
            raise Refused(400, "body: expected an object")
        return value

    def text(self, name: str) -> str:
        """Return a value of the query."""
        if name not in self.query:
            raise Refused(400, f"{name}: is missing in the address")
        return self.query[name]

    def keys(self) -> list[str]:
        """Return the ids of photos in the body."""
        keys = self.json().get("photos")
        if not isinstance(keys, list) or len(keys) > _MOST_KEYS or not all(isinstance(key, str) for key in keys):
            raise Refused(400, f"photos: expected a list of at most {_MOST_KEYS} ids")
        return keys


def route(path: str, method: str, answer: Callable[[Asked], Any]) -> Route:
    """Return a route whose function is given an `Asked`, and returns a response or what JSON can hold."""

    async def endpoint(request: Request) -> Response:
        asked = Asked(request.path_params, request.query_params, await request.body(), request.headers.get("if-match"))
        result = await run_in_threadpool(answer, asked)
        return result if isinstance(result, Response) else JSONResponse(result)

    return Route(path, endpoint, methods=[method])


def picture(content: bytes) -> Response:
    """An answer that browsers may keep: its address changes with its content."""
    headers = {"cache-control": "private, max-age=86400, immutable"}
    return Response(content, media_type="image/jpeg", headers=headers)


def attachment(name: str, content: bytes) -> Response:
    """An answer that browsers save as a file."""
    headers = {"content-disposition": f"attachment; filename*=utf-8''{quote(name)}"}
    return Response(content, media_type="application/octet-stream", headers=headers)

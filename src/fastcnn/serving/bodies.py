"""Photos out of the body of a request: raw bytes, a form with files, or JSON with base64."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from fastcnn._web import Limits, Refused

__all__ = ["Photo", "photos_of"]

_RAW = ("", "application/octet-stream")


class Photo(NamedTuple):
    """A photo of a request, and what its client calls it; the name is only handed back."""

    name: str | None
    content: bytes


async def photos_of(request: Request, limits: Limits) -> list[Photo]:
    """Return the photos of a request.

    Raises
    ------
    Refused
        If the body has none, has too many, or is of an unknown form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            photos = await _of_form(request, limits)
        elif kind == "application/json":
            photos = _of_json(await request.body(), limits)
        elif kind in _RAW or kind.startswith("image/"):
            photos = [Photo(None, await request.body())]
        else:
            expected = "an image, multipart/form-data or application/json"
            raise Refused(415, f"Content-Type {kind[:80]}: expected {expected}")
    except ClientDisconnect:
        raise Refused(400, "the client has gone") from None
    if not photos or photos == [Photo(None, b"")]:
        raise Refused(400, "the body has no photo")
    limits.check_count(len(photos))
    return photos


async def _of_form(request: Request, limits: Limits) -> list[Photo]:
    photos = []
    try:
        async with request.form(max_files=limits.count, max_fields=limits.count) as form:
            for _, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    raise Refused(400, "form: expected files only")
                photos.append(Photo(value.filename, await value.read()))
    except HTTPException as error:
        raise Refused(413 if "Too many" in error.detail else 400, f"form: {error.detail}") from None
    return photos


def _of_json(body: bytes, limits: Limits) -> list[Photo]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"JSON: {str(error)[:200]}") from None
    found: Any = given.get("images", given.get("image")) if isinstance(given, dict) else None
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise Refused(400, 'JSON: expected {"image": BASE64} or {"images": [BASE64, ...]}')
    limits.check_count(len(found))
    return [Photo(None, _decoded(text, i)) for i, text in enumerate(found)]


def _decoded(text: str, i: int) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, f"JSON: images[{i}] is not base64") from None

"""Refusals as answers of a Starlette application."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from fastcnn._web.policy import Refused

__all__ = ["refusal_as_answer"]


def refusal_as_answer(request: Request, error: Exception) -> JSONResponse:
    """Answer with what a route refuses: ``Starlette(exception_handlers={Refused: refusal_as_answer})``."""
    if not isinstance(error, Refused):
        raise error
    return JSONResponse({"error": str(error)}, error.status, dict(error.headers))

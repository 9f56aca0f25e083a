"""Asks an ASGI application without a network, as a browser or a program would."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

__all__ = ["Client"]


class Client:
    """Keeps cookies, and follows redirects."""

    def __init__(self, app: Any, base_url: str = "http://localhost") -> None:
        self._app, self._url = app, base_url
        self._cookies = httpx.Cookies()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the answer."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            settings: dict[str, Any] = {"cookies": self._cookies, "follow_redirects": True, "base_url": self._url}
            async with httpx.AsyncClient(transport=transport, **settings) as client:
                answer = await client.request(method, path, **options)
                self._cookies = client.cookies
                return answer

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST."""
        return self.request("POST", path, **options)

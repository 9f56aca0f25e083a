"""The ASGI middleware that stands before every route: host, origin, token, CSRF, size of the body, headers.

It needs no web framework. What it refuses never reaches the application.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from fastcnn._web.policy import Policy, Refused

__all__ = ["Guard"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

CSRF_HEADER = "x-fastcnn-csrf"
_READS = ("GET", "HEAD", "OPTIONS")
_WITHOUT_TOKEN = "open the address that the command has printed: the part behind token= is its key"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI application that lets through to another one what a policy allows.

    Parameters
    ----------
    app : ASGI application
    policy : Policy

    Notes
    -----
    A token in the address of a GET becomes a cookie, as Jupyter does, and the address loses it. A client without a
    browser sends ``Authorization: Bearer TOKEN``. Changes that a cookie stands for need the same origin and the header
    ``X-Fastcnn-Csrf`` with `Policy.csrf`.
    """

    def __init__(self, app: App, policy: Policy) -> None:
        self.app, self.policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # no page of this project opens one
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._handle(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send, self.policy)
        try:
            headers = _Headers(scope)
            self._check_host(headers)
            self._check_origin(headers, scope)
            if self._is_first_visit(scope):
                await answer.give(303, "", self._entry(scope))
                return
            self._check_token(headers, scope)
            await self.app(scope, self._limited(headers, receive, answer), answer.send)
        except Exception as error:
            if answer.was_refused:  # the error came of that
                return
            if answer.has_begun or not isinstance(
                error, Refused
            ):  # of half an answer only an end tells that it is none
                raise
            await answer.refuse(error)

    def _check_host(self, headers: _Headers) -> None:
        hosts = headers.all("host")
        if len(hosts) != 1 or not self.policy.knows_host(hosts[0]):
            given = hosts[0][:80] if hosts else "none"
            raise Refused(403, f"Host {given}: expected one of {', '.join(sorted(self.policy.hosts))}")

    def _check_origin(self, headers: _Headers, scope: Scope) -> None:
        """Refuse what pages of other sites ask for, even where that only reads."""
        origin = headers.one("origin")
        if origin is None or origin.lower() in self.policy.origins:
            return
        if origin.lower() != f"{scope.get('scheme', 'http')}://{headers.one('host')}".lower():
            raise Refused(403, f"Origin {origin[:80]}: pages of other sites may not ask here")

    def _is_first_visit(self, scope: Scope) -> bool:
        """Whether the address holds the token."""
        given = dict(parse_qsl(_query(scope))).get("token")
        return scope["method"] == "GET" and given is not None and self.policy.is_token(given)

    def _entry(self, scope: Scope) -> tuple[tuple[str, str], ...]:
        rest = urlencode([pair for pair in parse_qsl(_query(scope), keep_blank_values=True) if pair[0] != "token"])
        # One slash only: two would name another host.
        path = "/" + quote(scope["path"].lstrip("/\\"))
        cookie = f"{self.policy.cookie}={self.policy.cookie_value}; Path=/; HttpOnly; SameSite=Strict"
        return ("location", path + (f"?{rest}" if rest else "")), ("set-cookie", cookie)

    def _check_token(self, headers: _Headers, scope: Scope) -> None:
        policy = self.policy
        if policy.token is None or scope["path"] in policy.open_paths:
            return
        kind, _, given = (headers.one("authorization") or "").partition(" ")
        if kind.lower() == "bearer":  # no page of another site can add that header
            if not policy.is_token(given.strip()):
                raise Refused(401, "Authorization: another token was expected", (("www-authenticate", "Bearer"),))
            return
        if not _is_same(headers.cookie(policy.cookie), policy.cookie_value):
            raise Refused(401, _WITHOUT_TOKEN, (("www-authenticate", "Bearer"),))
        if scope["method"] not in _READS:
            self._check_csrf(headers)

    def _check_csrf(self, headers: _Headers) -> None:
        """A change needs proof that a page of this service asks for it, twice: by the browser, and by the page."""
        is_ours = headers.one("origin") is not None or headers.one("sec-fetch-site") == "same-origin"
        if not is_ours:
            raise Refused(403, "Origin: a change was asked for without it")
        if not _is_same(headers.one(CSRF_HEADER), self.policy.csrf):
            raise Refused(403, f"{CSRF_HEADER}: a change was asked for without the key of this page")

    def _limited(self, headers: _Headers, receive: Receive, answer: _Answer) -> Receive:
        """Return `receive`, which refuses a body that is too long: by its header, else as soon as it has become so."""
        most = self.policy.limits.body
        declared = headers.one("content-length")
        if declared is not None and not (declared.isascii() and declared.isdigit()):
            raise Refused(400, "Content-Length: expected a number")
        if declared is not None and (len(declared) > 18 or int(declared) > most):
            raise Refused(413, f"body: {declared[:20]} bytes, expected {most} at most", (("connection", "close"),))
        count = 0

        async def limited() -> Message:
            nonlocal count
            message = await receive()
            if message["type"] == "http.request":
                count += len(message.get("body", b""))
                if count > most:
                    answer.refusal = Refused(413, f"body: more than {most} bytes", (("connection", "close"),))
                    raise answer.refusal
            return message

        return limited


class _Headers:
    """The headers of a request."""

    def __init__(self, scope: Scope) -> None:
        self._pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        return [value for known, value in self._pairs if known == name]

    def one(self, name: str) -> str | None:
        """The value of a header; two that differ in meaning are one too many."""
        values = self.all(name)
        if len(values) > 1:
            raise Refused(400, f"{name}: {len(values)} times, expected once")
        return values[0] if values else None

    def cookie(self, name: str) -> str | None:
        try:
            jar = SimpleCookie("; ".join(self.all("cookie")))
        except CookieError:
            return None
        return jar[name].value if name in jar else None


def _query(scope: Scope) -> str:
    query: bytes = scope.get("query_string", b"")
    return query.decode("latin-1")


def _is_same(given: str | None, expected: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), expected.encode())


class _Answer:
    """The answer to a request: the application's with the headers that it lacks, or a refusal in its place."""

    def __init__(self, send: Send, policy: Policy) -> None:
        self._send, self._policy = send, policy
        self.has_begun = self.was_refused = False
        self.refusal: Refused | None = None  # that the application was told of, which may make another answer of it

    async def send(self, message: Message) -> None:
        if self.refusal is not None:
            if not self.has_begun:
                await self.refuse(self.refusal)
            return
        if message["type"] == "http.response.start":
            self.has_begun = True
            present = {name.lower() for name, _ in message.get("headers", ())}
            added = {**_HEADERS, "content-security-policy": self._policy.content_security_policy}
            more = [(name.encode(), text.encode()) for name, text in added.items() if name.encode() not in present]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await self._send(message)

    async def refuse(self, refusal: Refused) -> None:
        self.was_refused = True
        await self.give(refusal.status, str(refusal), refusal.headers)

    async def give(self, status: int, text: str, headers: tuple[tuple[str, str], ...]) -> None:
        """Send a text of the guard's own."""
        self.has_begun = True
        body = json.dumps({"error": text}).encode() if text else b""
        own = {**_HEADERS, "content-security-policy": self._policy.content_security_policy}
        own |= {"content-type": "application/json", "content-length": str(len(body))}
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*own.items(), *headers)]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": body})

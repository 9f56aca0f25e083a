"""What never reaches an application: wrong hosts, origins and tokens, changes without the key, bodies too long."""

from __future__ import annotations

import asyncio
import json

import pytest

from fastcnn._web import Guard, Limits, Policy, loopback_names, new_token

TOKEN = "a-token-of-the-tests"
POLICY = Policy(TOKEN, cookie="studio", open_paths=frozenset(["/healthz"]), limits=Limits(body=100))
COOKIE = ("cookie", f"studio={POLICY.cookie_value}")
ORIGIN = ("origin", "http://localhost:8000")
CSRF = ("x-fastcnn-csrf", POLICY.csrf)


async def echo(scope, receive, send):
    """Reads all of the body, and answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=9")]})
    await send({"type": "http.response.body", "body": str(length).encode()})


async def stubborn(scope, receive, send):
    """Makes an answer of its own of whatever goes wrong, as frameworks do."""
    try:
        await echo(scope, receive, send)
    except Exception:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"oh"})
        raise


def ask(*headers, method="GET", path="/", query="", parts=(b"",), policy=POLICY, host="localhost:8000", app=echo):
    """Return status, headers and body of the answer."""
    bodies = iter([*parts])
    sent = []

    async def receive():
        body = next(bodies)
        return {"type": "http.request", "body": body, "more_body": body is not parts[-1]}

    async def send(message):
        sent.append(message)

    pairs = [*([("host", host)] if host is not None else []), *headers]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in pairs],
    }
    asyncio.run(Guard(app, policy)(scope, receive, send))
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], found, b"".join(part["body"] for part in rest)


def test_the_cookie_opens_the_door():
    status, headers, _ = ask(COOKIE)
    assert status == 200
    assert headers["cache-control"] == "max-age=9"  # the application's own stays


def test_every_answer_has_the_headers_that_browsers_obey():
    for answer in (ask(COOKIE), ask(), ask(host="evil.example"), ask(query=f"token={TOKEN}")):
        headers = answer[1]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "style-src 'self';" in policy
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("path", ["/", "/api/photos", "//evil.example/a"])
def test_a_token_in_the_address_becomes_a_cookie(path):
    status, headers, _ = ask(query=f"a=1&token={TOKEN}", path=path)
    assert status == 303
    assert headers["location"] == "/" + path.lstrip("/") + "?a=1"  # and never another host
    cookie = headers["set-cookie"]
    assert cookie.startswith(COOKIE[1]) and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert TOKEN not in cookie and TOKEN not in headers["location"]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("cookie", "studio=wrong"),),
        (("cookie", f"studio={TOKEN}"),),
        (("cookie", "=;;\x01"),),
        (("authorization", "Bearer wrong"),),
        (COOKIE, ("authorization", "Bearer wrong")),
        (("authorization", f"Basic {TOKEN}"),),
    ],
)
def test_without_the_token_nothing_is_told(headers):
    status, found, body = ask(*headers)
    assert status == 401 and "set-cookie" not in found
    assert TOKEN.encode() not in body and POLICY.csrf.encode() not in body


def test_a_wrong_token_in_the_address_and_a_post_with_a_right_one_are_refused():
    assert ask(query="token=wrong")[0] == 401
    assert ask(query=f"token={TOKEN}", method="POST")[0] == 401


def test_programs_bring_the_token_in_a_header():
    bearer = ("authorization", f"Bearer {TOKEN}")
    assert ask(bearer)[0] == 200
    assert ask(bearer, method="POST")[0] == 200  # no page of another site can add that header


def test_open_paths_need_no_token_and_others_below_them_do():
    assert ask(path="/healthz")[0] == 200
    assert ask(path="/healthz/..")[0] == 401
    assert ask(policy=Policy(None))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.0.9:8000",
        "", "[::1", "localhost:8000@evil.example", "localhost:80a", None,
    ],
)  # fmt: skip
def test_names_that_were_rebound_to_this_machine_are_refused(host):
    assert ask(COOKIE, host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1:9", "[::1]:8000", "localhost."])
def test_names_of_this_machine_are_known(host):
    assert ask(COOKIE, host=host)[0] == 200


def test_two_hosts_are_one_too_many():
    assert ask(COOKIE, ("host", "evil.example"))[0] == 403


def test_hosts_that_were_asked_for_are_known():
    policy = Policy(None, hosts=loopback_names("Photos.Example"), takes_addresses=True)
    assert ask(policy=policy, host="photos.example:80")[0] == 200
    assert ask(policy=policy, host="192.168.0.9:8000")[0] == 200  # rebinding needs a name
    assert ask(policy=policy, host="evil.example")[0] == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:8001", "https://localhost:8000", "http://localhost:8000.evil"],
)
def test_pages_of_other_sites_are_refused(origin):
    assert ask(COOKIE, ("origin", origin))[0] == 403
    assert ask(COOKIE, ("origin", origin), CSRF, method="POST")[0] == 403
    assert ask(("origin", origin), policy=Policy(None))[0] == 403  # also where no token is asked for


def test_sites_that_were_named_may_ask():
    policy = Policy(None, origins=frozenset(["https://example.org"]))
    assert ask(("origin", "https://example.org"), policy=policy)[0] == 200
    assert ask(("origin", "https://example.com"), policy=policy)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "MADEUP"])
def test_changes_need_origin_and_key(method):
    assert ask(COOKIE, ORIGIN, CSRF, method=method)[0] == 200
    assert ask(COOKIE, ("sec-fetch-site", "same-origin"), CSRF, method=method)[0] == 200
    assert ask(COOKIE, ORIGIN, method=method)[0] == 403
    assert ask(COOKIE, CSRF, method=method)[0] == 403
    assert ask(COOKIE, ORIGIN, ("x-fastcnn-csrf", "wrong"), method=method)[0] == 403
    assert ask(COOKIE, CSRF, ("sec-fetch-site", "cross-site"), method=method)[0] == 403
    assert ask(ORIGIN, CSRF, method=method)[0] == 401


@pytest.mark.parametrize("app", [echo, stubborn])
def test_a_body_that_is_too_long_is_refused(app):
    given = {"method": "POST", "app": app}
    assert ask(COOKIE, ORIGIN, CSRF, parts=(b"a" * 60, b"b" * 40), **given)[2] == b"100"
    for headers in ((), (("content-length", "7"),)):  # told wrongly, or not at all
        status, found, body = ask(COOKIE, ORIGIN, CSRF, *headers, parts=(b"a" * 60, b"b" * 41), **given)
        assert status == 413 and "more than 100 bytes" in json.loads(body)["error"]
        assert found["connection"] == "close"


@pytest.mark.parametrize(("length", "status"), [("101", 413), ("9" * 40, 413), ("-1", 400), ("1e3", 400), ("²", 400)])
def test_a_length_is_believed_only_where_it_is_one(length, status):
    async def untouched(scope, receive, send):
        raise AssertionError("the application was asked")

    encoded = length.encode().decode("latin-1")
    assert ask(COOKIE, ORIGIN, CSRF, ("content-length", encoded), method="POST", app=untouched)[0] == status


def test_a_fault_of_the_application_is_not_hidden():
    async def broken(scope, receive, send):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        ask(COOKIE, app=broken)


def test_websockets_are_closed():
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(echo, POLICY)({"type": "websocket"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_tokens_differ_and_a_cookie_does_not_tell_them():
    assert len({new_token() for _ in range(100)}) == 100
    assert TOKEN not in POLICY.cookie_value + POLICY.csrf
    assert POLICY.cookie_value != POLICY.csrf

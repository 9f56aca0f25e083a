"""What a service allows: who may ask, under which names, and how much. guard.py enforces it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field

__all__ = ["Limits", "Policy", "Refused", "loopback_names", "new_token"]

_LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])
# Scripts and styles come from files of this server alone. Text never becomes markup: see "trusted types".
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


class Refused(Exception):
    """A request is refused: `status` is the status of HTTP, the text says why in the user's words.

    Examples
    --------
    >>> Refused(413, "body: too many bytes").status
    413
    """

    def __init__(self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


def new_token() -> str:
    """Return a token that nobody guesses: 192 bits, fit for an address.

    Examples
    --------
    >>> len(new_token()), new_token() == new_token()
    (32, False)
    """
    return secrets.token_urlsafe(24)


def loopback_names(*more: str) -> frozenset[str]:
    """Return the names under which this machine knows itself, and others.

    Examples
    --------
    >>> sorted(loopback_names("photos.example"))
    ['127.0.0.1', '::1', 'localhost', 'photos.example']
    """
    return _LOOPBACK | {name.lower() for name in more if name}


@dataclass(frozen=True)
class Limits:
    """How much a request may bring.

    Attributes
    ----------
    body : int
        Bytes of a request.
    photo : int
        Bytes of a photo.
    pixels : int
        Pixels of a photo, by its header: none is decoded that has more.
    count : int
        Photos of a request.
    """

    body: int = 64 << 20
    photo: int = 32 << 20
    pixels: int = 100_000_000
    count: int = 64

    def check_count(self, count: int) -> None:
        """Refuse a request with too many photos.

        Raises
        ------
        Refused
            With status 413.
        """
        if count > self.count:
            raise Refused(413, f"{count} photos in a request, expected {self.count} at most")


@dataclass(frozen=True)
class Policy:
    """Who may ask.

    Attributes
    ----------
    token : str, or None
        What a client must know; None where whoever reaches the port may ask.
    hosts : frozenset of str
        Names by which the service may be called, without ports. A page whose name was pointed at this machine after it
        was loaded ("DNS rebinding") calls it by a name of its own.
    takes_addresses : bool
        Whether every address in numbers will do as well. A name is needed for rebinding.
    origins : frozenset of str
        Other sites whose pages may ask, such as ``https://example.org``.
    cookie : str
        Name of the cookie that takes the token's place; browsers share cookies between all ports of a machine.
    open_paths : frozenset of str
        Paths that need no token, such as ``/healthz``.
    limits : Limits
    content_security_policy : str

    Examples
    --------
    >>> policy = Policy(token="secret")
    >>> policy.knows_host("localhost:8000"), policy.knows_host("evil.example:8000")
    (True, False)
    """

    token: str | None
    hosts: frozenset[str] = _LOOPBACK
    takes_addresses: bool = False
    origins: frozenset[str] = frozenset()
    cookie: str = "fastcnn"
    open_paths: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    content_security_policy: str = CONTENT_SECURITY_POLICY

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this service; whatever its port."""
        name = _without_port(header)
        return name in self.hosts or (self.takes_addresses and _is_address(name))

    def is_token(self, given: str) -> bool:
        """Whether a client knows the token; the time that this takes tells nothing."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    @property
    def cookie_value(self) -> str:
        """What the cookie holds: from it nobody learns the token."""
        return self._derived("cookie")

    @property
    def csrf(self) -> str:
        """What a page of this service sends with each change; pages of other sites cannot read it."""
        return self._derived("csrf")

    def _derived(self, purpose: str) -> str:
        return hmac.new((self.token or "").encode(), purpose.encode(), hashlib.sha256).hexdigest()


def _without_port(header: str) -> str:
    """The name in a Host header, in lower case; "" where it is none."""
    text = header.strip().lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        return name if bracket and (not port or (port[0] == ":" and port[1:].isdigit())) else ""
    name, colon, port = text.partition(":")
    return name.rstrip(".") if not colon or port.isdigit() else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

"""Runs an application: binds a port or a Unix socket, and stops when asked, after the requests in flight."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
from contextlib import suppress
from typing import Any

import uvicorn

from fastcnn.serving.application import Application

__all__ = ["bound", "bound_unix", "serve"]

_BACKLOG = 1024


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises
    ------
    OSError
        If the address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OSError(error.errno, error.strerror, f"--host {host}") from error
    listener = socket.socket(family, kind, protocol)
    if os.name == "posix":  # on Windows it would let two programs share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
    return listener


def bound_unix(path: str) -> socket.socket:
    """Return a Unix socket that listens, which only the user can open. One that a dead process has left is replaced.

    Raises
    ------
    OSError
        If another process listens there, or the path is something else.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "exists, and is no socket", path)
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "another process listens there", path)
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror or str(error), path) from error
    finally:
        os.umask(mask)
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(path)
        except OSError:
            return False
    return True


class _Server(uvicorn.Server):
    """Tells the service of a signal to stop, so that `/readyz` does."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self._application = application

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop: what is in flight is answered. A second Ctrl-C does not wait for that.

        The signal is not raised again at the end, as uvicorn does: a service that was asked to stop, and did, is well.
        """
        self._application.service.is_stopping = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve(application: Application, listener: socket.socket, grace: float) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is in flight.

    Parameters
    ----------
    application : Application
    listener : socket
        It is closed at the end; a Unix socket is removed.
    grace : float
        Seconds for what is in flight.
    """
    settings = application.service.settings
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(grace)),
        limit_concurrency=2 * settings.queue + 64,
    )
    path = listener.getsockname() if listener.family == getattr(socket, "AF_UNIX", None) else None
    application.service.start()
    try:
        _Server(config, application).run([listener])
    finally:
        listener.close()
        if path:
            with suppress(OSError):
                os.unlink(path)

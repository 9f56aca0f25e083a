"""Runs the studio: binds the port, prints the address with its token, and opens the browser."""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from typing import Any

__all__ = ["serve"]

PORT = 8421
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(folder: str, host: str = "127.0.0.1", port: int | None = None, browser: bool = True) -> None:
    """Serve a project until Ctrl-C.

    Parameters
    ----------
    folder : str
    host : str
        Address to listen at; others than this machine reach the page only where it is not of the loopback.
    port : int, optional
        By default 8421, or whichever is free.
    browser : bool
        Whether to open the page.

    Raises
    ------
    ImportError
        Without the packages of ``fastcnn[studio]``.
    OSError
        If the port is taken, or the folder cannot be written to.
    ValueError
        If another studio has the folder.
    """
    try:
        import starlette  # noqa: F401 - so that the message comes before a port is taken
        import uvicorn
    except ImportError as error:
        raise ImportError('the studio needs more packages: pip install "fastcnn[studio]"', name=error.name) from error
    from fastcnn._web import Policy, loopback_names, new_token
    from fastcnn.studio.app import Studio
    from fastcnn.studio.project import Project

    project = Project(folder)
    try:
        listener = _bound(host, port)
        number = listener.getsockname()[1]
        token, is_open = new_token(), host not in _LOOPBACK
        names = loopback_names(host, *([socket.gethostname()] if is_open else []))
        policy = Policy(token, hosts=names, takes_addresses=is_open, cookie=f"fastcnn-{number}")
        config = uvicorn.Config(
            Studio(project, policy).app,
            log_level="warning",
            access_log=False,  # addresses hold the token
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            limit_concurrency=200,
        )
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        _announce(f"http://{shown}:{number}/?token={token}", project.root, is_open, browser)
        uvicorn.Server(config).run([listener])
    finally:
        project.close()


def _bound(host: str, port: int | None) -> socket.socket:
    """A socket that listens; where no port is asked for and the usual one is taken, at another one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows it would let two programs share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    number = PORT if port is None else port
    try:
        try:
            listener.bind((host, number))
        except OSError:
            if port is not None:
                raise
            listener.bind((host, 0))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"{error.strerror} (another program may have the port)", f"{host}:{number}"
        ) from error
    return listener


def _announce(address: str, folder: Any, is_open: bool, browser: bool) -> None:
    print(f"fastcnn studio: {folder}\n\n    {address}\n", flush=True)
    if is_open:
        print("Whoever reaches this machine and knows the address can change these photos.", flush=True)
    print("Ctrl-C ends it. Trainings go on.", flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

"""`fastcnn serve`: classify photos over HTTP."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import Any

from fastcnn.cli._arguments import number_above, whole
from fastcnn.cli._models import DEFAULT, trained_model
from fastcnn.io._regular import open_regular
from fastcnn.serving import app, named
from fastcnn.zoo.pretrained import pretrained_names

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TOKEN_BYTES = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "MODEL is a saved model, an ONNX file or a pretrained network; NAME=MODEL gives it another name.\n"
        "Files that are replaced are loaded again. SIGTERM and Ctrl-C stop after the requests in flight.\n\n"
        "example: fastcnn serve flowers.safetensors\n"
        "         curl --data-binary @photo.jpg http://127.0.0.1:8000/v1/classify"
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", default=[DEFAULT], help=f"what answers (default: {DEFAULT})"
    )
    place = parser.add_argument_group("where")
    place.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen at (default: 127.0.0.1)"
    )
    place.add_argument(
        "--port", type=whole(0, 65535), default=8000, metavar="N", help="0 takes a free one (default: 8000)"
    )
    place.add_argument("--uds", metavar="FILE", help="a Unix socket to listen at, in place of an address")
    place.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name to be called by, too")
    place.add_argument("--token-file", metavar="FILE", help="what clients must send as Authorization: Bearer ...")
    work = parser.add_argument_group("how much")
    work.add_argument("--threads", type=whole(1, 1024), metavar="N", help="threads of inference (default: all)")
    work.add_argument("--decoders", type=whole(1, 1024), metavar="N", help="threads that decode photos (default: all)")
    work.add_argument(
        "--max-batch", type=whole(1, 1024), default=32, metavar="N", help="images in a batch (default: 32)"
    )
    work.add_argument(
        "--max-wait-ms", type=number_above(-1e-9), default=2.0, metavar="N", help="wait for a batch (default: 2)"
    )
    work.add_argument("--queue", type=whole(1), default=256, metavar="N", help="photos that may wait (default: 256)")
    work.add_argument("--timeout", type=number_above(0), default=30.0, metavar="SECONDS", help="(default: 30)")
    work.add_argument(
        "--max-bytes", type=whole(1), default=16 << 20, metavar="N", help="of a request (default: 16777216)"
    )
    work.add_argument("--max-pixels", type=whole(1), default=100_000_000, metavar="N", help="of a photo (default: 1e8)")
    work.add_argument("--max-images", type=whole(1), default=64, metavar="N", help="of a request (default: 64)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    token = None if options.token_file is None else _token(options.token_file)
    models = _models(options.models)
    is_local = options.uds is not None or options.host in _LOOPBACK
    hosts = [*_LOOPBACK, options.host, *options.allow_host]
    if not is_local:
        hosts += [socket.gethostname(), *_addresses(options.host)]
    application: Any = app(
        models,
        max_batch=options.max_batch,
        max_wait_ms=max(0.0, options.max_wait_ms),
        queue=options.queue,
        timeout=options.timeout,
        threads=options.threads,
        decoders=options.decoders,
        max_bytes=options.max_bytes,
        max_pixels=options.max_pixels,
        max_images=options.max_images,
        token=token,
        hosts=hosts,
    )
    try:
        from fastcnn.serving.server import bound, bound_unix, serve
    except ImportError as error:
        raise ImportError('serving needs uvicorn: pip install "fastcnn[serve]"', name=error.name) from error
    listener = bound_unix(options.uds) if options.uds is not None else bound(options.host, options.port)
    _announce(application, listener, is_local, token)
    serve(application, listener, options.timeout)
    return 0


def _models(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not equals or os.path.exists(word):
            name, place = next(iter(named(word))), word
        if name in found:
            raise ValueError(f"two models are called {name}: give one another name by NAME={place}")
        is_pretrained = place in pretrained_names() and not os.path.exists(place)
        found[name] = place if os.path.exists(place) and not is_pretrained else trained_model(place)
    return found


def _token(path: str) -> str:
    with open_regular(path) as file:
        text: str = file.read(_TOKEN_BYTES + 1).decode("ascii", "replace").strip()
    if not text or not text.isascii() or not text.isprintable() or len(text) > _TOKEN_BYTES:
        raise ValueError(f"--token-file {path}: expected a line of plain letters")
    return text


def _addresses(host: str) -> list[str]:
    """The addresses that a service for all of the network is called by."""
    if host not in ("0.0.0.0", "::", ""):
        return []
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)})
    except OSError:
        return []


def _announce(application: Any, listener: socket.socket, is_local: bool, token: str | None) -> None:
    for served in application.service.models.values():
        sizes = served.version.sizes
        how = f"in batches of up to {sizes[-1]}" if len(sizes) > 1 else "one by one, as batches are not faster"
        print(f"fastcnn serve: {served.name}: {how}", file=sys.stderr)
    address = listener.getsockname()
    if isinstance(address, tuple):
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        address = f"http://{host}:{address[1]}"
    print(f"fastcnn serve: listening at {address}", file=sys.stderr, flush=True)
    if not is_local and token is None:
        print("fastcnn serve: whoever reaches this machine may ask (--token-file)", file=sys.stderr, flush=True)

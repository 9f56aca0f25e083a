"""Classifying photos over HTTP: an ASGI application, which ``fastcnn serve`` runs and other applications can mount.

Photos are decoded in threads beside inference, and gathered into batches where that is faster on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastcnn.model import Model

__all__ = ["app"]

Source = Model | str | os.PathLike[str]


def app(
    models: Source | Mapping[str, Source],
    *,
    max_batch: int = 32,
    max_wait_ms: float = 2.0,
    queue: int = 256,
    timeout: float = 30.0,
    threads: int | None = None,
    decoders: int | None = None,
    reload_seconds: float = 1.0,
    max_bytes: int = 16 << 20,
    max_pixels: int = 100_000_000,
    max_images: int = 64,
    token: str | None = None,
    hosts: Sequence[str] | None = ("localhost", "127.0.0.1", "::1"),
) -> Callable[..., Any]:
    """Return an ASGI application that classifies photos.

    It measures for a second or two which batches are faster than single photos. Its routes are ``POST /v1/classify``,
    ``GET /v1/model``, ``/v1/models``, ``/healthz``, ``/readyz``, ``/metrics`` and ``/openapi.json``.

    Parameters
    ----------
    models : Model or path, or mapping of str to them
        What answers, by name. The name of a file is its stem, that of a model ``model``. A request chooses by
        ``?model=NAME``; the first answers those that do not. A file is loaded again when it is replaced.
    max_batch : int
        Images in a batch at most.
    max_wait_ms : float
        Milliseconds that a photo waits for others which are being decoded.
    queue : int
        Photos that may wait; others are answered by 429 with Retry-After.
    timeout : float
        Seconds for reading a request, and for answering it.
    threads : int, optional
        Threads of inference, as in `fastcnn.num_threads`.
    decoders : int, optional
        Threads that decode photos; by default as many as there are cores.
    reload_seconds : float
        How often files are looked at; 0 for never.
    max_bytes, max_pixels, max_images : int
        Limits of a request, of a photo's pixels, and of its number of photos.
    token : str, optional
        What clients must send as ``Authorization: Bearer TOKEN``.
    hosts : sequence of str, optional
        Names that the service may be called by. None takes every name: for an application within another one, which
        checks them itself.

    Returns
    -------
    ASGI application

    Raises
    ------
    ImportError
        Without Starlette, which ``pip install "fastcnn[serve]"`` brings.
    ValueError, TypeError
        If an argument is out of range, or a model does not tell how photos become inputs.

    Examples
    --------
    >>> from fastcnn import zoo
    >>> from fastcnn.io.image import Preprocess
    >>> model = zoo.small_cnn(num_classes=2, image_size=32)
    >>> model.preprocess = Preprocess(size=32)
    >>> application = app({"cats": model}, max_batch=2)
    >>> list(application.service.models)
    ['cats']
    """
    try:
        import python_multipart  # noqa: F401 - which Starlette asks for when the first form comes
        import starlette  # noqa: F401
    except ImportError as error:
        raise ImportError('serving needs Starlette: pip install "fastcnn[serve]"', name=error.name) from error
    from fastcnn._arguments import as_int
    from fastcnn._web import Limits, Policy
    from fastcnn.serving.application import OPEN_PATHS, Application
    from fastcnn.serving.service import Service
    from fastcnn.serving.settings import AnyHost, Settings

    size = as_int(max_bytes, "serving: max_bytes", 1)
    pixels, count = as_int(max_pixels, "serving: max_pixels", 1), as_int(max_images, "serving: max_images", 1)
    settings = Settings(
        max_batch, max_wait_ms, queue, timeout, threads, decoders, reload_seconds, Limits(size, size, pixels, count)
    )
    policy = (AnyHost if hosts is None else Policy)(
        token,
        hosts=frozenset(name.lower() for name in hosts or ()),
        takes_addresses=hosts is None,
        open_paths=OPEN_PATHS,
        limits=settings.limits,
    )
    return Application(Service(named(models), settings), policy)


def named(models: Source | Mapping[str, Source]) -> dict[str, Source]:
    """Return models by name.

    Raises
    ------
    TypeError, ValueError
        If there are none, or one is neither a model nor a path.

    Examples
    --------
    >>> list(named("models/cats.safetensors"))
    ['cats']
    """
    if isinstance(models, Mapping):
        found: dict[Any, Any] = dict(models)
    else:
        name = "model" if isinstance(models, Model) or not isinstance(models, (str, os.PathLike)) else _stem(models)
        found = {name: models}
    if not found:
        raise ValueError("serving: models is empty, expected at least one")
    for name, source in found.items():
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ValueError(f"serving: a model is called {name!r}, expected printable text")
        if not isinstance(source, (Model, str, os.PathLike)):
            raise TypeError(f"serving: {name} is of type {type(source).__name__}, expected a Model or a path")
    return found


def _stem(path: str | os.PathLike[str]) -> str:
    base = os.path.basename(os.fspath(path).rstrip(os.sep))
    return os.path.splitext(base)[0] or "model"

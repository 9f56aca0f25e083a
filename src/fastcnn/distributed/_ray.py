"""Ray itself: imported when first used, and connected to."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import Any

__all__ = ["connect", "ray_module"]


def ray_module(what: str, name: str = "ray") -> Any:
    """Return the module ray, or one of its own.

    Parameters
    ----------
    what : str
        What needs it, for the message.
    name : str

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{what} needs Ray: pip install 'fastcnn[ray]'") from error


def connect(ray: Any, address: str | None, cpus: int) -> bool:
    """Connect to a cluster, or start one on this machine; return whether this call has done so.

    Parameters
    ----------
    ray : module
    address : str, optional
        Of a running cluster, or "auto" for that of this machine. None takes the cluster that the program is connected
        to, that of RAY_ADDRESS, or starts one.
    cpus : int
        That a cluster of this machine has at least.

    Raises
    ------
    ConnectionError
        If no cluster answers.
    """
    if ray.is_initialized():
        return False
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    address = address or os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        settings["num_cpus"] = max(cpus, os.cpu_count() or 1)
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # it tells every few seconds how far it is
    try:
        ray.init(address=address, **settings)
    except (ConnectionError, ValueError) as error:
        raise ConnectionError(
            f"Ray: address={address!r}: no cluster answers, `ray start --head` begins one: {str(error).splitlines()[0]}"
        ) from error
    return True

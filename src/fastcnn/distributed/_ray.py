"""Ray itself: imported when first used, and connected to."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["connect", "ray_module"]


def ray_module(what: str) -> Any:
    """Return the module ray.

    Parameters
    ----------
    what : str
        What needs it, for the message.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"{what} needs Ray: pip install 'fastcnn[ray]'") from error
    return ray


def connect(ray: Any, address: str | None, cpus: int) -> bool:
    """Connect to a cluster, or start one on this machine; return whether this call has done so.

    Parameters
    ----------
    ray : module
    address : str, optional
        Of a running cluster, or "auto" for that of this machine. None takes the cluster that the program is connected
        to, or starts one.
    cpus : int
        That a cluster of this machine has at least.
    """
    if ray.is_initialized():
        return False
    # Ray adds the folder of the program to the path of workers; it does not know of folders that the caller has added.
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    if address is None:
        settings["num_cpus"] = max(cpus, os.cpu_count() or 1)
    else:
        settings["address"] = address
    try:
        ray.init(**settings)
    except ConnectionError as error:
        raise ConnectionError(
            f"Ray: address={address!r}, no cluster answers: `ray start --head` begins one ({error})"
        ) from error
    return True

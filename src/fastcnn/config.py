"""What this installation runs on: versions, instruction set, threads."""

from __future__ import annotations

import numpy as np

from fastcnn._version import __version__
from fastcnn.kernels import _cpu


def config() -> dict[str, str]:
    """The configuration in use, as text by topic.

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> "instruction set" in config()
    True
    """
    import platform  # slow to import, and only needed here

    threads, source = _cpu.threads_and_source()
    usable = ", ".join(_cpu.available_isas())
    return {
        "fastcnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _cpu.cpu_features(),
        "instruction set": f"{_cpu.isa()} (usable here: {usable}; FASTCNN_ISA forces one)",
        "threads": f"{threads} ({source})",
    }


def show_config() -> None:
    """Print the configuration in use: a first thing to send with a question.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastcnn: ...
    """
    for topic, text in config().items():
        print(f"{topic}: {text}")

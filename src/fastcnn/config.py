"""What this installation runs on: versions, instruction set, threads."""

from __future__ import annotations

import os

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


def get_include() -> str:
    """Return the folder of the C header, for `include_dirs` of extensions that use fastcnn.

    Files of C and C++ include `<fastcnn/capi.h>`; Cython has ``from fastcnn.capi cimport ...``.

    Returns
    -------
    str

    Examples
    --------
    >>> import os
    >>> os.path.exists(os.path.join(get_include(), "fastcnn", "capi.h"))
    True
    """
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


def show_config() -> None:
    """Print the configuration in use: a first thing to send with a question.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastcnn: ...
    """
    for topic, text in config().items():
        print(f"{topic}: {text}")

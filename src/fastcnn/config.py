"""What this installation runs on: versions, instruction set, threads."""

from __future__ import annotations

import os

import numpy as np

from fastcnn._version import __version__
from fastcnn.kernels import _cpu, _int8


def config() -> dict[str, str]:
    """The configuration in use, as text by topic; each number with where it comes from.

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
    numbers = [f"{name}: {number or 'says nothing'}" for name, number in _cpu.thread_numbers()]
    usable = _cpu.available_isas()
    if _cpu.isa() == os.environ.get("FASTCNN_ISA"):
        chosen = "FASTCNN_ISA"
    else:
        chosen = "the fastest usable one" if _cpu.isa() == usable[0] else "set_isa"
    return {
        "fastcnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _cpu.cpu_features(),
        "instruction set": f"{_cpu.isa()} ({chosen}; usable here: {', '.join(usable)}; FASTCNN_ISA forces one)",
        "instructions for 8 bits": f"{_int8.int8_isa()} (usable beside it: {', '.join(_int8.int8_names())})",
        "threads": f"{threads} ({source})",
        "threads, the strongest first": "; ".join(numbers),
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

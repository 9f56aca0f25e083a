"""The command line: `fastcnn classify | explain | train | check | evaluate | info | convert | quantize | serve | â¦`.

One module a command, imported when it runs.

Exit codes: 0 all went well; 1 some photos could not be read, a check found faults, or training has diverged;
2 the command cannot run (usage, model, missing package); 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from fastcnn._version import __version__
from fastcnn.cli._arguments import Parser
from fastcnn.cli._output import in_words, printable_output
from fastcnn.errors import FastcnnWarning
from fastcnn.kernels._cpu import available_isas

_COMMANDS = {
    "classify": "name what photos show",
    "train": "train a classifier on a folder of photos",
    "explain": "show what a network sees of a photo",
    "check": "find broken, double and odd photos in a folder",
    "evaluate": "examine a classifier on a folder of photos",
    "info": "describe a model, or show where its time goes",
    "convert": "turn a model into ONNX or safetensors",
    "quantize": "turn a model into one of 8 bits, smaller and faster",
    "tune": "time the algorithms of a model on this machine",
    "studio": "open a page to gather photos, train, understand and use classifiers",
    "serve": "classify photos over HTTP",
    "doctor": "show the configuration and check every kernel on this machine",
    "bench": "measure convolution kernels on this machine",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit code.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    name = next((word for word in arguments if word in _COMMANDS), "")
    try:
        return _run(_parsed(arguments))
    except SystemExit as stop:  # argparse has printed what is wrong, or help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone: nothing more to say, not even on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _tell(f"fastcnn {name}: {in_words(error)}")
        if os.environ.get("FASTCNN_TRACEBACK", "0") not in ("", "0"):
            raise
        return 1 if isinstance(error, ArithmeticError) else 2


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="fastcnn", description="Classify images on a CPU, fast.")
    parser.add_argument("--version", action="version", version=f"fastcnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # Only the command that runs is imported: the others would cost their start-up time.
        if name in arguments[:1]:
            importlib.import_module(f"fastcnn.cli.{name}").configure(command)
            command.set_defaults(parser=command)
    return parser.parse(arguments)


def _check_instruction_set() -> None:
    """Refuse a FASTCNN_ISA that this machine has not: a command answers for what it was given."""
    wanted, available = os.environ.get("FASTCNN_ISA"), available_isas()
    if wanted and wanted not in available:
        raise ValueError(f"FASTCNN_ISA={wanted[:40]!r}, expected one of {', '.join(available)}")


def _run(options: argparse.Namespace) -> int:
    _check_instruction_set()
    known = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *where: Any, **rest: Any) -> None:
        if issubclass(category, FastcnnWarning):
            _tell(f"fastcnn {options.command}: {message}")
        else:
            known(message, category, *where, **rest)

    with warnings.catch_warnings(), printable_output():
        warnings.simplefilter("always", FastcnnWarning)
        warnings.showwarning = tell
        code: int = options.run(options)
        sys.stdout.flush()
    return code


def _tell(message: str) -> None:
    """Print a message on stderr, which may be closed, or full."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr)

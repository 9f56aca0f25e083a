"""`fastcnn tune`: time the algorithms for each convolution of a model on this machine, and keep the answers."""

from __future__ import annotations

import argparse
import json

import numpy as np

from fastcnn._replace import check_writable
from fastcnn.cli._arguments import whole
from fastcnn.cli._models import add_threads, any_model
from fastcnn.kernels import _cpu
from fastcnn.model_format import suffix_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = "example: fastcnn tune resnet18 -o tuned.safetensors"
    parser.add_argument("model", metavar="MODEL", help="a network of the zoo, or a saved model")
    parser.add_argument("-o", "--output", metavar="FILE", help="save the model with the answers")
    parser.add_argument("--repeats", type=whole(1), default=10, metavar="N", help="medians of N turns (default: 10)")
    parser.add_argument("--json", action="store_true", help="print the answers as a JSON object")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Tune, print, save."""
    if options.output and suffix_of(options.output, "--output") == ".onnx":
        raise ValueError(f"--output: {options.output}: ONNX files do not hold the answers, expected .safetensors")
    if options.output:
        check_writable(options.output, "-o")
    _cpu.set_num_threads(options.threads)
    model = any_model(options.model)
    measured = model.tune(np.zeros((1, *(model.input_shape or ())), np.float32), options.repeats)
    if options.json:
        print(json.dumps(model.tuning, indent=2))
    else:
        for key, times in measured.items():
            best = model.tuning[key]
            print(f"{key}: {best} (" + ", ".join(f"{name} {1e3 * t:.3f} ms" for name, t in times.items()) + ")")
    if options.output:
        model.save(options.output)
    return 0

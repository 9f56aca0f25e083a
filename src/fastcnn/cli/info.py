"""`fastcnn info`: a model's layers, sizes and kernels."""

from __future__ import annotations

import argparse
import json

import numpy as np

from fastcnn.cli._arguments import whole
from fastcnn.cli._models import add_output, add_size, add_threads, any_model, set_size
from fastcnn.cli._preflight import check_plot
from fastcnn.kernels import _cpu
from fastcnn.model import Model


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = "example: fastcnn info resnet18"
    parser.add_argument("model", metavar="MODEL", help="a network of the zoo, a saved model or an ONNX file")
    add_size(parser)
    add_output(parser)
    parser.add_argument("--profile", action="store_true", help="time every step of a prediction instead")
    parser.add_argument(
        "--batch", type=whole(1), metavar="N", help="with --profile: images to time together (default: 1)"
    )
    parser.add_argument("--plot", metavar="FILE", help="with --profile: draw the roofline (needs matplotlib)")
    parser.add_argument("--verbose", action="store_true", help="tell why other kernels were not taken")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the summary."""
    for name in ("plot", "batch", "threads"):
        if getattr(options, name) is not None and not options.profile:
            raise ValueError(f"--{name} {getattr(options, name)}: expected with --profile")
    model = any_model(options.model, options.output)
    set_size(model, options.size)
    if options.profile:
        return _profile(model, options)
    summary = model.summary(verbose=options.verbose)
    preprocess = model.preprocess.to_dict() if model.preprocess else None
    if options.json:
        layers = [
            {
                "name": row.name,
                "op": row.op,
                "output_shape": row.output_shape,
                "parameters": row.parameters,
                "flops": row.flops,
                "kernel": row.kernel,
                "reasons": row.reasons,
            }
            for row in summary.rows
        ]
        print(
            json.dumps(
                {
                    "model": options.model,
                    "input_shape": model.input_shape,
                    "classes": model.classes,
                    "task": model.task,
                    "preprocess": preprocess,
                    "parameters": summary.parameters,
                    "flops": summary.flops,
                    "layers": layers,
                },
                indent=2,
            )
        )
        return 0
    print(summary)
    print(f"\ninput: {'x'.join(map(str, model.input_shape or ()))}")
    print(f"classes: {len(model.classes) if model.classes else 'not named'}")
    if model.task:
        print(f"task: {model.task.replace('_', ' ')}")
    if preprocess:
        print("preprocess: " + ", ".join(f"{key}={value}" for key, value in preprocess.items()))
    return 0


def _profile(model: Model, options: argparse.Namespace) -> int:
    if options.plot:
        check_plot(options.plot)
    batch = 1 if options.batch is None else options.batch
    _cpu.set_num_threads(options.threads)
    shape = (batch, *(model.input_shape or ()))
    profile = model.profile(np.random.default_rng(0).random(shape, np.float32))
    if options.plot:
        profile.plot(options.plot)
    print(json.dumps(profile.to_dict(), indent=2) if options.json else profile)
    return 0

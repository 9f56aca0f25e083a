"""`fastcnn info`: a model's layers, sizes and kernels."""

from __future__ import annotations

import argparse
import json

from fastcnn.cli._models import any_model


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = "example: fastcnn info resnet18"
    parser.add_argument("model", metavar="MODEL", help="a network of the zoo, or a saved model")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the summary."""
    model = any_model(options.model)
    summary = model.summary()
    preprocess = model.preprocess.to_dict() if model.preprocess else None
    if options.json:
        layers = [
            {"name": row.name, "op": row.op, "output_shape": row.output_shape, "parameters": row.parameters,
             "flops": row.flops, "kernel": row.kernel, "reasons": row.reasons}
            for row in summary.rows
        ]
        print(json.dumps({
            "model": options.model, "input_shape": model.input_shape, "classes": model.classes,
            "preprocess": preprocess, "parameters": summary.parameters, "flops": summary.flops, "layers": layers,
        }, indent=2))
        return 0
    print(summary)
    print(f"\ninput: {'x'.join(map(str, model.input_shape or ()))}")
    print(f"classes: {len(model.classes) if model.classes else 'not named'}")
    if preprocess:
        print("preprocess: " + ", ".join(f"{key}={value}" for key, value in preprocess.items()))
    return 0

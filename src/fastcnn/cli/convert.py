"""`fastcnn convert`: a model in another format."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastcnn import zoo
from fastcnn.cli._arguments import whole
from fastcnn.cli._models import add_output, add_size, any_model, set_size
from fastcnn.model import Model

_FORMATS = (".onnx", ".safetensors")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "example: fastcnn convert model.onnx model.safetensors\n"
        "         fastcnn convert resnet18.pth resnet18.onnx --architecture resnet18"
    )
    parser.add_argument(
        "source",
        metavar="IN",
        help="a saved model, an ONNX file, a network of the zoo, or weights "
        "(.safetensors, .pth, .pt) for --architecture",
    )
    parser.add_argument("target", metavar="OUT", help=f"the file to write: {' or '.join(_FORMATS)}")
    parser.add_argument(
        "--architecture", choices=zoo.names(), metavar="NAME", help=f"whose weights IN holds: {', '.join(zoo.names())}"
    )
    parser.add_argument("--classes", type=whole(1), metavar="N", help="outputs of it (default: its own)")
    add_size(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, and write."""
    suffix = Path(options.target).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"{options.target}: unknown format, expected a name that ends in {' or '.join(_FORMATS)}")
    model = _source(options)
    set_size(model, options.size)
    model.save(options.target)
    return 0


def _source(options: argparse.Namespace) -> Model:
    if options.architecture is None:
        if options.classes is not None:
            raise ValueError(f"--classes {options.classes}: expected with --architecture")
        return any_model(options.source, options.output)
    if options.output is not None:
        raise ValueError(f"--output {options.output}: expected without --architecture, whose networks have one output")
    settings = {} if options.classes is None else {"num_classes": options.classes}
    return zoo.build(options.architecture, weights=options.source, **settings)

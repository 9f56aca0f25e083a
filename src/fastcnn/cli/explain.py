"""`fastcnn explain`: what a network sees of a photo, as a page or a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastcnn._figure import drawn
from fastcnn._replace import check_writable, replacing
from fastcnn.cli._arguments import whole
from fastcnn.cli._explained import Explained, explained
from fastcnn.cli._models import DEFAULT, add_photo_options, add_threads, describe, trained_model
from fastcnn.kernels._cpu import set_num_threads

_PAGES, _PICTURES = (".html", ".htm"), (".png",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "The page holds its pictures and loads nothing. It shows the classes, a heat map of what speaks for one, the\n"
        "first filters, and the maps of layers.\n\n"
        "example: fastcnn explain holiday.jpg -o holiday.html\n"
        "         fastcnn explain holiday.jpg --label tabby --layers _conv_stem,_blocks.3 -o holiday.png"
    )
    parser.add_argument("photo", metavar="PHOTO", help="image file")
    parser.add_argument(
        "--model",
        default=DEFAULT,
        metavar="NAME-OR-FILE",
        help=f"a pretrained network, a saved model, ONNX, or a folder of timm or Hugging Face (default: {DEFAULT})",
    )
    parser.add_argument(
        "-o", "--page", required=True, metavar="FILE", help="what to write: a page .html, or a picture .png"
    )
    parser.add_argument("--layers", metavar="NAME[,NAME]", help="layers to show (default: all steps)")
    parser.add_argument("--label", metavar="NAME", help="name or number of the class to explain (default: the best)")
    parser.add_argument("--top", type=whole(1), default=5, metavar="N", help="classes to name (default: 5)")
    parser.add_argument(
        "--heat",
        choices=("grad-cam", "occlusion"),
        default="grad-cam",
        help="how the heat map is made: by a gradient, or by hiding parts, which takes longer (default: grad-cam)",
    )
    add_photo_options(parser)
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the page or the picture, and print the classes."""
    set_num_threads(options.threads)
    suffix = Path(options.page).suffix.lower()
    if suffix not in _PAGES + _PICTURES:
        raise ValueError(f"-o {options.page}: expected a name that ends in .html or .png")
    check_writable(options.page, "-o")
    if suffix in _PICTURES:
        drawn("fastcnn explain -o", (1, 1), lambda _: None, None)  # without matplotlib it ends here
    model = trained_model(options.model, options.output)
    describe(model, options)
    layers = None if options.layers is None else [name for name in options.layers.split(",") if name]
    shown = explained(model, options.model, options.photo, options.top, options.label, options.heat, layers)
    _write(shown, options.page, suffix)
    for one in shown.predictions:
        print(f"{100 * one.probability:5.1f} %  {one.label}")
    print(f"{options.page}: {len(shown.layers)} layers, and why {shown.heat.title}")
    return 0


def _write(shown: Explained, path: str, suffix: str) -> None:
    if suffix in _PICTURES:
        from fastcnn.cli._explain_picture import draw

        draw(shown, path)
    else:
        from fastcnn.cli._explain_page import page

        with replacing(path) as file:
            file.write(page(shown).encode())

"""Exports the classifiers of torchvision and timm as ONNX files with random weights.

    python benchmarks/zoo/export.py FOLDER [--names swin_t,levit]

It needs torch, torchvision, timm and onnx. Files that are there already stay. Norms and scales get random numbers, too:
those that begin as ones or zeros would hide mistakes.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from names import TIMM, TORCHVISION


def made(library: str, name: str) -> tuple[Any, int]:
    """The network, and the side of its images."""
    torch.manual_seed(0)
    if library == "torchvision":
        import torchvision

        settings = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, **settings), 299 if name == "inception_v3" else 224
    import timm

    model = timm.create_model(name, pretrained=False)
    return model, model.default_cfg["input_size"][1]


def export(library: str, name: str, path: Path) -> None:
    """Write the network to a file, for batches of any size."""
    model, side = made(library, name)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        scale = 0.1 if parameter.ndim <= 1 else 0.02 * float(not parameter.any())
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(1, 3, side, side, generator=generator)
    free = {"x": {0: "N"}, "y": {0: "N"}}
    settings = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": free}
    torch.onnx.export(model.eval(), (x,), str(path), opset_version=17, dynamo=False, **settings)
    np.save(path.with_suffix(".npy"), x.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", default="", help="parts of names, with commas (default: all)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    for library, names in (("torchvision", TORCHVISION), ("timm", TIMM)):
        for name in names:
            path = options.folder / f"{library}-{name}.onnx"
            if path.exists() or not any(part in name for part in options.names.split(",")):
                continue
            try:
                export(library, name, path)
            except Exception as error:  # one that its own exporter refuses must not end the others
                path.unlink(missing_ok=True)
                print(f"{library} {name}: not exported: {str(error).splitlines()[0][:120]}", flush=True)
            else:
                print(f"{library} {name}", flush=True)


if __name__ == "__main__":
    main()

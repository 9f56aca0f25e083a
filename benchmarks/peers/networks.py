"""The networks that engines are compared on, with seeded random weights, and their form for each engine.

Every engine gets the same graph. fastcnn reads its own file, ONNX Runtime and OpenVINO read ONNX, PyTorch reads
TorchScript. ncnn reads what pnnx makes of TorchScript.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import fastcnn as fc
from fastcnn.graph.ir import Graph
from fastcnn.io.onnx_export import to_onnx
from fastcnn.ops.base import resolve_pads


def cifar_cnn() -> fc.Model:
    """Build conv 32, conv 32, pool, conv 64, pool, fully connected, for 32 x 32 pixels."""
    return fc.Sequential(
        fc.Conv2d(3, 32, 3, padding=1),
        fc.ReLU(),
        fc.Conv2d(32, 32, 3, padding=1),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.ReLU(),
        fc.Conv2d(32, 64, 3, padding=1),
        fc.ReLU(),
        fc.MaxPool2d(2),
        fc.Flatten(),
        fc.Linear(4096, 10),
    )


NETWORKS = {
    "LeNet": (fc.zoo.lenet, (1, 28, 28)),
    "CIFAR CNN": (cifar_cnn, (3, 32, 32)),
    "SqueezeNet": (fc.zoo.squeezenet1_1, (3, 224, 224)),
    "MobileNetV2": (fc.zoo.mobilenet_v2, (3, 224, 224)),
    "ResNet-18": (fc.zoo.resnet18, (3, 224, 224)),
    "ResNet-50": (fc.zoo.resnet50, (3, 224, 224)),
    "VGG-16": (fc.zoo.vgg16, (3, 224, 224)),
}


# Inputs that integers are calibrated with, at random as the weights are.
CALIBRATION = 4


def save_all(name: str, batch: int, folder: Path, engines: list[str], precision: str = "f32") -> np.ndarray:
    """Write a network in the form that each engine reads. Return an input."""
    build, shape = NETWORKS[name]
    model = build()
    model.input_shape = shape
    (model.astype("bfloat16") if precision == "bf16" else model).save(folder / "model.safetensors")
    x = np.random.default_rng(0).random((batch, *shape), np.float32)
    np.save(folder / "x.npy", x)
    if {"onnxruntime", "openvino"} & set(engines) or precision == "int8":
        graph = replace(model.graph(), inputs={"x": x.shape})  # every engine knows the size of the batch
        with (folder / "model.onnx").open("wb") as file:
            file.writelines(to_onnx(graph, graph.inputs, {}))
        if precision == "int8":
            quantise(folder / "model.onnx", x.shape)
    if "torch" in engines:
        write_torchscript(model.graph(), x, folder / "model.pt")
    if "ncnn" in engines:  # takes single images
        write_torchscript(model.graph(), x[:1], folder / "single.pt")
        size = ",".join(map(str, (1, *shape)))
        command = [str(Path(sys.executable).parent / "pnnx"), "single.pt", f"inputshape=[{size}]", "fp16=0"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return x


def quantise(path: Path, shape: tuple[int, ...]) -> None:
    """Let the network in a file be one of integers, in the form that all engines read."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Inputs(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(1)
            parts = range(-(-CALIBRATION // shape[0]))
            self.batches = iter([{"x": rng.random(shape, np.float32)} for _ in parts])

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(path, prepared)
    settings = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    quantize_static(prepared, path, Inputs(), quant_format=QuantFormat.QDQ, **settings)


def _explicit(graph: Graph, node, shapes) -> dict:
    """Return the attributes with explicit in place of automatic padding."""
    attrs = dict(node.attrs)
    if "auto_pad" in attrs:
        kernel = shapes[node.inputs[1]][2:] if node.op == "Conv" else attrs["kernel_shape"]
        attrs["pads"] = resolve_pads(attrs, shapes[node.inputs[0]][2:], kernel)
        del attrs["auto_pad"]
    attrs.pop("algorithm", None)
    return attrs


def write_torchscript(graph: Graph, x: np.ndarray, path: Path) -> None:
    """Write the graph as a traced PyTorch module."""
    import torch
    from torch.nn import functional as F

    shapes = graph.infer({"x": x.shape})

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.names = {name: name.replace(".", "_") for name in graph.constants}
            for name, array in graph.constants.items():
                self.register_parameter(self.names[name], torch.nn.Parameter(torch.tensor(array), False))

        def forward(self, x):
            values = {name: getattr(self, attribute) for name, attribute in self.names.items()}
            values["x"] = x
            for node in graph.nodes:
                a, v = _explicit(graph, node, shapes), [values[name] if name else None for name in node.inputs]
                values[node.output] = OPERATIONS[node.op](a, *v)
            return values[graph.outputs[0]]

    def pool(function, a, x):
        return function(x, a["kernel_shape"], a["strides"], a["pads"][:2], ceil_mode=bool(a["ceil_mode"]))

    OPERATIONS = {
        "Conv": lambda a, x, w, b=None: F.conv2d(
            x, w, b, a["strides"], tuple(a["pads"][:2]), a["dilations"], a["group"]
        ),
        "Gemm": lambda a, x, w, b=None: F.linear(x, w, b),
        "Relu": lambda a, x: F.relu(x),
        "Clip": lambda a, x: F.hardtanh(x, a["min"], a["max"]),
        "BatchNormalization": lambda a, x, w, b, m, v: F.batch_norm(x, m, v, w, b, False, 0.0, a["epsilon"]),
        "MaxPool": lambda a, x: pool(F.max_pool2d, a, x),
        "AveragePool": lambda a, x: pool(F.avg_pool2d, a, x),
        "GlobalAveragePool": lambda a, x: F.adaptive_avg_pool2d(x, 1),
        "Flatten": lambda a, x: torch.flatten(x, a["axis"]),
        "Add": lambda a, x, y: x + y,
        "Concat": lambda a, *v: torch.cat(v, a["axis"]),
        "Dropout": lambda a, x: x,
    }
    torch.jit.trace(Network().eval(), torch.tensor(x)).save(str(path))

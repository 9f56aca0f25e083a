"""Three networks, and what PyTorch's hooks see within them: maps, embeddings and Grad-CAM.

    PYTHONPATH=tests python tests/explain/seen_by_pytorch.py

writes seen_by_pytorch.json anew; made with PyTorch 2.13. One network is written in Python. One is the ONNX file of
training/network_of_pytorch.py. One is an ONNX network with operations that only NumPy computes. Weights of the first
and the last come from a seed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from training import network_of_pytorch

NUMBERS = Path(__file__).with_suffix(".json")
CHANNELS, CLASSES, SIZE = 6, 4, 12
# Layers that are looked at: their names in PyTorch, and here.
LOOKED_AT = {
    "written": {name: name for name in ("stem", "block.norm", "block.relu", "block", "pool", "relu", "head")},
    "exported": {
        "stem": "node_conv2d",
        "norm": "node__native_batch_norm_legit_no_training__0",
        "response": "node_div",
        "pool": "node_max_pool2d",
        "second": "node_conv2d_2",
        "head": "node_linear",
    },
    "islands": {name: name for name in ("stem", "bend", "deep", "soft", "head")},
}
# The layer that Grad-CAM looks at.
CAM = {"written": "block", "exported": "pool", "islands": "stem"}
LABELS = (2, 0)
EVERY = 11  # number of a map that is kept


def images(channels=3, size=SIZE):
    return np.random.default_rng(5).standard_normal((2, channels, size, size)).astype(np.float32)


def weights(name):
    """Of a network, by PyTorch's names."""
    rng = np.random.default_rng(len(name))
    c = CHANNELS
    shapes = {"stem.weight": (c, 3, 3, 3), "stem.bias": (c,), "head.weight": (CLASSES, c), "head.bias": (CLASSES,)}
    if name == "written":
        shapes |= {"block.conv.weight": (c, c, 3, 3), "block.norm.weight": (c,), "block.norm.bias": (c,)}
        shapes |= {"block.norm.running_mean": (c,), "block.norm.running_var": (c,)}
    else:
        shapes |= {"deep.weight": (c, c, 3, 3), "deep.bias": (c,)}
    made = {key: (rng.standard_normal(shape) / 2).astype(np.float32) for key, shape in shapes.items()}
    return {key: np.abs(array) + np.float32(0.5) if "var" in key else array for key, array in made.items()}


def torch_network(name):
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.norm(self.conv(self.relu(x))) + x)

    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Conv2d(3, CHANNELS, 3, padding=1), Block()
            self.pool, self.relu, self.head = nn.MaxPool2d(2), nn.ReLU(), nn.Linear(CHANNELS, CLASSES)

        def forward(self, x):
            x = self.relu(self.pool(self.block(self.stem(x))))
            return self.head(x.mean((2, 3)))

    class Islands(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.bend = nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ELU(0.7)
            self.deep, self.soft = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, stride=2), nn.Softplus()
            self.head = nn.Linear(CHANNELS, CLASSES)

        def forward(self, x):
            return self.head(self.soft(self.deep(self.bend(self.stem(x)))).mean((2, 3)))

    if name == "exported":
        return network_of_pytorch.network(), images(size=network_of_pytorch.SIZE)
    model = Written() if name == "written" else Islands()
    given = {key: torch.tensor(array) for key, array in weights(name).items()}
    missing = model.load_state_dict(given, strict=False)
    assert not missing.unexpected_keys and all("num_batches" in key for key in missing.missing_keys)
    return model.eval(), images()


def seen(name):
    """What hooks see in one network."""
    import torch

    model, batch = torch_network(name)
    outputs, inputs, slopes = {}, {}, {}

    def watch(path, module):
        def hook(_, given, output):
            outputs[path], inputs[path] = output.detach(), given[0].detach()
            if path == CAM[name]:
                output.register_hook(lambda grad: slopes.update({path: grad}))

        module.register_forward_hook(hook)

    for path, module in model.named_modules():
        if path:
            watch(path, module)
    scores = model(torch.tensor(batch))
    scores[range(2), LABELS].sum().backward()
    maps, grad = outputs[CAM[name]], slopes[CAM[name]]
    heat = torch.relu((grad.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
    heat = heat / heat.amax((2, 3), keepdim=True)
    large = torch.nn.functional.interpolate(heat, batch.shape[2:], mode="bilinear", align_corners=False)
    found = {path: outputs[path] for path in LOOKED_AT[name]}
    return {
        "maps": {path: plain(array.ravel()[::EVERY]) for path, array in found.items()},
        "embedding": plain(inputs["head"]),
        "cam": plain(heat[:, 0]),
        "large": plain(large[:, 0]),
    }


def plain(array):
    """Lists of the shortest numbers that stand for the same float32."""
    flat = [float(str(value)) for value in array.detach().numpy().ravel()]
    return {"shape": list(array.shape), "values": flat}


def expected():
    """The file's arrays."""

    def read(part):
        if "values" in part:
            return np.array(part["values"], np.float32).reshape(part["shape"])
        return {key: read(inner) for key, inner in part.items()}

    # What `maps` has are some numbers of each layer, in the order of its axes.
    return read(json.loads(NUMBERS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    NUMBERS.write_text(json.dumps({name: seen(name) for name in LOOKED_AT}) + "\n", encoding="utf-8")

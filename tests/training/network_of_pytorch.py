"""A small network as PyTorch exports it, for test_imported.py; and what PyTorch makes of it, before and after training.

    python tests/training/network_of_pytorch.py

writes network_of_pytorch.onnx and network_of_pytorch.json anew; made with PyTorch 2.13 and onnxscript 0.7. Where the
exporter optimises, it folds batch normalisations into convolutions, which then cannot be trained as they were: it is
told not to. Its local response normalisation it writes as a chain of other operators.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RATE, MOMENTUM, STEPS, CLASSES, SIZE, CHANNELS = 0.005, 0.9, 20, 5, 16, 12
NETWORK, NUMBERS = (Path(__file__).with_suffix(end) for end in (".onnx", ".json"))


def batches():
    """A batch for each step, and images to look at; a class is the brightest of five stripes."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(STEPS + 1):
        x, y = rng.standard_normal((16, 3, SIZE, SIZE)).astype(np.float32), rng.integers(0, CLASSES, 16)
        for image, label in zip(x, y, strict=True):
            image[:, :, 3 * label : 3 * label + 3] += 1
        made.append((x, y))
    # As many images as channels: the onnx package's LRN takes the one for the other.
    return made[:-1], made[-1][0][:CHANNELS]


def network():
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)
            self.response, self.pool = nn.LocalResponseNorm(5, alpha=0.5), nn.MaxPool2d(3, 2, 1)
            self.first, self.inner = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)
            self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
            self.head = nn.Linear(CHANNELS * (SIZE // 2) ** 2, CLASSES)

        def forward(self, x):
            x = self.pool(self.response(torch.relu(self.norm(self.stem(x)))))
            x = torch.relu(self.second(torch.relu(self.inner(self.first(x)))) + x)
            return self.head(torch.flatten(x, 1))

    torch.manual_seed(0)
    model = Network().eval()
    for norm in (model.norm, model.inner):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.3, 1)
    return model


def main():
    import onnx
    import torch

    model, (training, images) = network(), batches()
    batch = {0: torch.export.Dim("N")}
    torch.onnx.export(
        model,
        (torch.tensor(images[:2]),),
        NETWORK,
        input_names=["x"],
        output_names=["scores"],
        dynamic_shapes=(batch,),
        external_data=False,
        optimize=False,
    )
    written = onnx.load(NETWORK)
    for part in (
        *written.graph.node,
        *written.graph.value_info,
        *written.graph.input,
        *written.graph.output,
        written.graph,
    ):
        del part.metadata_props[:]  # where in this file each node comes from
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, NETWORK)

    outputs = model(torch.tensor(images))
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    model.train()
    losses = []
    for x, y in training:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    trained = model.eval()(torch.tensor(images))
    found = {"outputs": outputs.tolist(), "losses": losses, "trained": trained.tolist()}
    NUMBERS.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

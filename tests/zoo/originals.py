"""The networks of torchvision and timm that the zoo follows: outputs, and losses of the first steps of training.

Anyone can make the weights and images again.

    python tests/zoo/originals.py [NAME ...]

writes originals.json anew, or the entries that are named, in float64. It needs both packages. Made with
torchvision 0.29 and timm 1.0.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from math import prod, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STORED = Path(__file__).with_suffix(".json")


class Original(NamedTuple):
    """Where a network comes from, and the size of the image that it sees here."""

    package: str
    name: str
    size: int = 64
    settings: Mapping[str, Any] = {}  # of the function of this name
    own_settings: Mapping[str, Any] = {}  # of this library's function


ORIGINALS = {
    "convnext_atto": Original("timm", "convnext_atto"),
    "convnext_tiny": Original("timm", "convnext_tiny"),
    "convnextv2_atto": Original("timm", "convnextv2_atto"),
    "deit_tiny": Original("timm", "deit_tiny_patch16_224", 96, {"img_size": 96}, {"image_size": 96}),
    "efficientnet_b0": Original("torchvision", "efficientnet_b0"),
    "efficientnet_v2_s": Original("torchvision", "efficientnet_v2_s"),
    "mobilenet_v2": Original("torchvision", "mobilenet_v2"),
    "mobilenet_v3_large": Original("torchvision", "mobilenet_v3_large"),
    "mobilenet_v3_small": Original("torchvision", "mobilenet_v3_small"),
    "mobilenet_v4_conv_small": Original("timm", "mobilenetv4_conv_small"),
    "regnet_y_400mf": Original("torchvision", "regnet_y_400mf"),
    "repvgg_a0": Original("timm", "repvgg_a0"),
    "resnet18": Original("torchvision", "resnet18"),
    "resnet34": Original("torchvision", "resnet34"),
    "resnet50": Original("torchvision", "resnet50"),
    "resnext50": Original("torchvision", "resnext50_32x4d"),
    "squeezenet1_1": Original("torchvision", "squeezenet1_1"),
    "swin_t": Original("torchvision", "swin_t", 96),
    "vgg16": Original("torchvision", "vgg16", 224),
    "vit_base_patch16": Original("timm", "vit_base_patch16_224", 96, {"img_size": 96}, {"image_size": 96}),
    "vit_small_patch16": Original("timm", "vit_small_patch16_224", 96, {"img_size": 96}, {"image_size": 96}),
    "vit_tiny_patch16": Original("timm", "vit_tiny_patch16_224", 96, {"img_size": 96}, {"image_size": 96}),
}

# Networks whose training is stored, and the learning rate of SGD with momentum.
TRAINED = dict.fromkeys(["convnext_atto", "efficientnet_b0", "mobilenet_v3_small", "vit_tiny_patch16"], 0.003)
MOMENTUM, STEPS, BATCH, CLASSES = 0.9, 20, 8, 10


def digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a fingerprint of names and shapes in their order."""
    lines = "\n".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def patterned(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return weights that anyone can make again: RandomState's stream never changes."""
    noise = np.random.RandomState(0).standard_normal(1_000_003).astype(np.float32)
    state = {}
    for i, (name, shape) in enumerate(shapes.items()):
        if name.endswith("relative_position_index"):  # no weight, but where to find one
            continue
        values = np.resize(np.roll(noise, 7919 * i), shape)
        if len(shape) > 1:
            values *= sqrt(2 / prod(shape[1:]))
        elif name.endswith("running_var"):
            values = np.exp(0.2 * values)
        else:
            values = 0.1 * values
            if name.endswith(("weight", "gamma")):  # of a normalisation or a scale
                values += 0.7
        state[name] = values
    return state


def image(size: int, channels: int = 3) -> np.ndarray:
    """Return one image of noise."""
    return np.random.RandomState(1).standard_normal((1, channels, size, size)).astype(np.float32)


def batches(size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of each step of training: noise, brighter for each class."""
    random = np.random.RandomState(2)
    for _ in range(STEPS):
        labels = random.randint(CLASSES, size=BATCH)
        images = random.standard_normal((BATCH, 3, size, size)) + labels[:, None, None, None] / CLASSES
        yield images.astype(np.float32), labels


def summary(scores: np.ndarray) -> list[float]:
    """The mean, the standard deviation, the largest and the second of the scores."""
    return [float(value) for value in (scores.mean(), scores.std(), scores.max(), scores[1])]


def build(original: Original, **settings: Any) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The original in float64, with `patterned` weights; and their shapes."""
    import torch

    if original.package == "timm":
        import timm

        model = timm.create_model(original.name, **original.settings, **settings)
    else:
        import torchvision

        model = torchvision.models.get_model(original.name, **original.settings, **settings)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    model.load_state_dict({name: torch.tensor(value) for name, value in patterned(shapes).items()}, strict=False)
    return model.double(), shapes


def entry(original: Original) -> dict[str, Any]:
    """What is stored of a network."""
    import torch

    model, shapes = build(original)
    with torch.no_grad():
        scores = model.eval()(torch.tensor(image(original.size)).double())[0].numpy()
    parameters = sum(value.numel() for value in model.parameters())
    return {"parameters": parameters, "digest": digest(shapes), "outputs": summary(scores)}


def losses(original: Original, rate: float) -> list[float]:
    """The losses of the first steps of training, without dropout."""
    import torch

    model, _ = build(original, num_classes=CLASSES)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    optimizer = torch.optim.SGD(model.train().parameters(), lr=rate, momentum=MOMENTUM)
    found = []
    for images, labels in batches(original.size):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(images).double()), torch.tensor(labels))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def main() -> None:
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    for name in sys.argv[1:] or ORIGINALS:
        stored[name] = entry(ORIGINALS[name])
        if name in TRAINED:
            stored[name]["losses"] = losses(ORIGINALS[name], TRAINED[name])
        print(name, stored[name], flush=True)
    STORED.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()

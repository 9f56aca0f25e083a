"""Training: losses, optimizers, and the trainer that runs a compiled step."""

from fastcnn.training.losses import MSE, BinaryCrossEntropy, CrossEntropy, Loss
from fastcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from fastcnn.training.trainer import Trainer

__all__ = [
    "MSE", "SGD", "Adam", "AdamW", "BinaryCrossEntropy", "CrossEntropy", "Loss", "Optimizer", "RMSprop", "Trainer",
]

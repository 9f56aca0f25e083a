"""Training: data, losses, optimizers and schedules, the trainer that runs a compiled step, and the loop of epochs."""

from fastcnn.training.augment import Augment
from fastcnn.training.callbacks import Callback
from fastcnn.training.composed import LAMB, Lion
from fastcnn.training.groups import parameter_groups
from fastcnn.training.history import History
from fastcnn.training.loggers import CSVLogger, JSONLinesLogger, MLflowLogger, TensorBoardLogger
from fastcnn.training.losses import MSE, BinaryCrossEntropy, CrossEntropy, FunctionLoss, Loss
from fastcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from fastcnn.training.report import Report
from fastcnn.training.schedules import Cosine, OneCycle, StepDecay, Warmup
from fastcnn.training.trainer import Trainer

__all__ = [
    "LAMB",
    "MSE",
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "BinaryCrossEntropy",
    "CSVLogger",
    "Callback",
    "Cosine",
    "CrossEntropy",
    "FunctionLoss",
    "History",
    "JSONLinesLogger",
    "Lion",
    "Loss",
    "MLflowLogger",
    "OneCycle",
    "Optimizer",
    "RMSprop",
    "Report",
    "StepDecay",
    "TensorBoardLogger",
    "Trainer",
    "Warmup",
    "parameter_groups",
]

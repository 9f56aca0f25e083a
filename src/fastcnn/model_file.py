"""What programs and pickles of version 0.1 look for under this name."""

from fastcnn.graph_network import _Group
from fastcnn.loading import GraphModel, load
from fastcnn.model_format import save

__all__ = ["GraphModel", "_Group", "load", "save"]

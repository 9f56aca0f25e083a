"""`GraphModel`: a model that is given as a graph.

graph_network.py predicts; loading.py and onnx_model.py read models from files.
"""

from __future__ import annotations

from fastcnn.graph_network import GraphNetwork
from fastcnn.model import Model

__all__ = ["GraphModel"]


class GraphModel(GraphNetwork, Model):
    """A model given as a graph instead of Python code, such as `fastcnn.load` returns.

    Parameters
    ----------
    graph, buffers, max_bytes
        As for `GraphNetwork`.

    Examples
    --------
    >>> from fastcnn import Linear, Sequential
    >>> model = GraphModel(Sequential(Linear(2, 3)).graph((2,)))
    >>> model
    GraphModel(1 nodes, input ('N', 2))
    >>> history = model.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=1)
    """

    _estimator: str | None = None  # what a file tells of the classifier around the model: estimator_file.py's

"""What a network sees: heat maps, filters, layers and similar photos.

`Model.feature_maps` and `Model.embed` give the numbers; ``fastcnn explain`` makes a page of all of it.

Examples
--------
>>> import numpy as np
>>> from fastcnn import explain, zoo
>>> model = zoo.lenet(rng=0)
>>> explain.grad_cam(model, np.random.default_rng(0).random((1, 28, 28))).shape
(28, 28)
"""

from __future__ import annotations

from fastcnn.explain.gradient import grad_cam
from fastcnn.explain.neighbours import Neighbour, nearest
from fastcnn.explain.occluded import occlusion
from fastcnn.explain.pictures import filters, overlay
from fastcnn.inside import Layer
from fastcnn.inside import layers_of as layers

__all__ = ["Layer", "Neighbour", "filters", "grad_cam", "layers", "nearest", "occlusion", "overlay"]

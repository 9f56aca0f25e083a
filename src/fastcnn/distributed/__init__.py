"""Many processes and machines, by Ray: `Ray` for `Model.fit`, and `classify` for photos by the million.

>>> Ray(workers=2)
Ray(workers=2, threads=1, address=None, timeout=300.0)
"""

from fastcnn.distributed.classify import classify
from fastcnn.distributed.cluster import Ray

__all__ = ["Ray", "classify"]

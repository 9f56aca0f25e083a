"""What every page and every service of fastcnn needs against hostile pages, files and names, as plain ASGI.

policy.py says what is allowed, and guard.py is the middleware that enforces it. uploads.py checks the bytes of photos.
names.py makes names of files from those that a browser gives. Routes are up to the applications above.
"""

from __future__ import annotations

from fastcnn._web.guard import Guard
from fastcnn._web.names import inside, safe_name, safe_stem
from fastcnn._web.policy import Limits, Policy, Refused, loopback_names, new_token
from fastcnn._web.uploads import Upload, as_upload

__all__ = [
    "Guard",
    "Limits",
    "Policy",
    "Refused",
    "Upload",
    "as_upload",
    "inside",
    "loopback_names",
    "new_token",
    "safe_name",
    "safe_stem",
]

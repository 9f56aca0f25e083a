"""The errors and the warning that are fastcnn's own; everything else raises Python's built-in ones.

Each is also a ValueError (the warning a UserWarning), so that callers who know nothing of fastcnn can
catch them. What the messages say is up to those who raise them.
"""

from __future__ import annotations

__all__ = ["FastcnnWarning", "ImageError", "ModelLoadError"]


class FastcnnWarning(UserWarning):
    """Warns of something that works, but perhaps not as its user expects.

    Examples
    --------
    >>> issubclass(FastcnnWarning, UserWarning)
    True
    """


class ModelLoadError(ValueError):
    """A file of weights or of a model is damaged, hostile or of an unknown kind; names file and cause.

    Examples
    --------
    >>> issubclass(ModelLoadError, ValueError)
    True
    """


class ImageError(ValueError):
    """A photo is damaged, too large or of an unknown kind; names the file and the cause.

    Examples
    --------
    >>> issubclass(ImageError, ValueError)
    True
    """

"""Pictures by matplotlib, which is optional."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcnn._replace import replacing

__all__ = ["drawn"]


def drawn(
    owner: str, size: tuple[float, float], draw: Callable[[Any], None], path: str | os.PathLike[str] | None
) -> Any:
    """A new figure.

    Parameters
    ----------
    owner : str
        The method that draws, for errors.
    size : (float, float)
        Width and height in inches.
    draw : callable
        Draws on the figure.
    path : path-like or None
        Of an image to write; the suffix (.png, .svg, .pdf) tells the format. Without one, .png is added.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError, OSError
        If the format is unknown; if the image cannot be written. An old one is untouched.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f'{owner} needs matplotlib: pip install "fastcnn[plot]"') from error
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    if path is not None:
        suffix = Path(path).suffix
        with replacing(path if suffix else f"{os.fspath(path)}.png") as file:
            figure.savefig(file, format=suffix[1:].lower() or "png")
    return figure

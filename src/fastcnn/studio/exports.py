"""A trained model as files for elsewhere."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from fastcnn._web import Refused
from fastcnn.model import Model
from fastcnn.studio.examined import photos_of
from fastcnn.studio.runs import Run

__all__ = ["exported", "formats_of"]

_CALIBRATION = 128  # photos that tell the ranges of 8-bit values


def formats_of() -> list[str]:
    """The formats that this version writes."""
    return ["safetensors", "onnx", *(["quantised"] if hasattr(Model, "quantize") else [])]


def exported(run: Run, model: Model, kind: str) -> tuple[str, bytes]:
    """Return the name and the content of a file.

    Raises
    ------
    Refused
        With status 404 for a format that is not known, and 409 where the model cannot be written in it.
    """
    if kind not in formats_of():
        raise Refused(404, f"export {kind[:40]!r}: expected one of {', '.join(formats_of())}")
    name = re.sub(r"[^\w-]+", "-", run.settings["name"].lower(), flags=re.ASCII).strip("-") or f"run-{run.id}"
    suffix = ".onnx" if kind == "onnx" else "-int8.safetensors" if kind == "quantised" else ".safetensors"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model" + suffix)
        try:
            if kind == "quantised":
                photos = [run.folder / "photos" / name for name, is_kept_back in photos_of(run) if not is_kept_back]
                step = max(1, len(photos) // _CALIBRATION)
                model = getattr(model, "quantize")(photos[::step][:_CALIBRATION])  # noqa: B009 - not in all versions
            model.save(path)
        except (ValueError, ImportError) as error:
            raise Refused(409, f"export: {error}") from error
        return name + suffix, path.read_bytes()

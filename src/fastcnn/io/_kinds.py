"""What a file is, by its first bytes: for messages to those who give one of another program's."""

from __future__ import annotations

__all__ = ["START", "kind_of"]

START = 512  # bytes to look at
_KINDS: list[tuple[int, bytes, str]] = [
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes (.h5): export the model to ONNX, by tf2onnx"),
    (4, b"TFL3", "a TensorFlow Lite model: convert it to ONNX, by tf2onnx"),
    (0, b"GGUF", "a GGUF file of a language model"),
    (0, b"7767517", "a model of ncnn: export the original to ONNX"),
    (0, b"PK\x03\x04", "a ZIP archive, as PyTorch (.pt) and Keras (.keras) write"),
    (0, b"\x80", "a pickle"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it first"),
    (0, b"\x7fELF", "a program"),
]
_TEXTS: list[tuple[bytes, str]] = [
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself, by git lfs pull"),
    (b"<?xml", "XML, perhaps a model of OpenVINO: export the original to ONNX"),
    (b"<!doctype html", "a web page: the download has failed"),
    (b"<html", "a web page: the download has failed"),
    (b"{", "JSON text"),
]


def kind_of(start: bytes) -> str | None:
    """Return what a file is that begins with these bytes, in words; None where nobody knows.

    Examples
    --------
    >>> kind_of(b""), kind_of(b"# Read me"), kind_of(bytes(8))
    ('an empty file', 'a text file', None)
    """
    if not start:
        return "an empty file"
    for offset, magic, kind in _KINDS:
        if start[offset : offset + len(magic)] == magic:
            return kind
    for magic, kind in _TEXTS:
        if start.lstrip().lower().startswith(magic):
            return kind
    text = start.decode("utf-8", "replace")[:-3]  # the last letter may be cut
    return "a text file" if all(letter.isprintable() or letter.isspace() for letter in text) and text else None

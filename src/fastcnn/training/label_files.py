"""Label files: tables of paths and labels, as CSV files and data frames have them.

tables.py knows the other forms of data. How names become numbers of classes is prepare.py's.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcnn.io.image import is_image

__all__ = ["LABELS", "SUFFIXES", "Known", "known_labels", "of_columns", "read_table"]

SUFFIXES = (".csv", ".tsv")
LABELS = ("label", "labels", "fine_label", "class", "category", "target", "tags", "y")
_PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "photo")
_BETWEEN = re.compile("[|;]")  # several labels in one cell


class Known(NamedTuple):
    """Inputs with their labels.

    Attributes
    ----------
    x : ndarray, or sequence of photos or paths
    y : ndarray or list
        As `Model.fit` takes them. Names that are numbers are still text.
    classes : list of str, or None
        Names of the labels, where these are numbers or columns.
    places : list of str
        Where the label of each input stands, for messages; empty where nobody knows.
    """

    x: Any
    y: Any
    classes: list[str] | None = None
    places: Sequence[str] = ()


def read_table(path: Path, several: bool = False) -> Known:
    """Return the photos and labels of a CSV file; paths in it are relative to its folder.

    Parameters
    ----------
    path : Path
        A .tsv file has tabs between its cells. A .csv file has commas, or semicolons if its first line has no comma.
    several : bool
        As for `known_data`.

    Raises
    ------
    ValueError
        Naming the file and the line that is wrong.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            lines = file.read().splitlines(keepends=True)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: no text in UTF-8: {error.reason} at byte {error.start}") from None
    first = lines[0] if lines else ""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in first and "," not in first else ","
    reader = csv.reader(lines, delimiter=delimiter)
    rows: list[list[str]] = []
    places: list[str] = []
    while True:
        place = f"{path}: line {reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{place}: {error}") from None
        if row is None:
            break
        if row:
            rows.append(row)
            places.append(place)
            if len(row) != len(rows[0]):
                raise ValueError(f"{place}: {len(row)} cells, expected {len(rows[0])}, as in the first line")
    if len(rows) < 2:
        raise ValueError(f"{path}: {len(rows)} lines, expected names of columns, and at least one photo")
    names = [name.strip() for name in rows[0]]
    if is_image(names[0]):
        raise ValueError(f"{places[0]}: {names[0]!r}, expected names of columns, such as path{delimiter}label")
    if double := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{places[0]}: two columns {double!r}")
    columns = {name: list(cells) for name, *cells in zip(names, *rows[1:], strict=True)}
    known = of_columns(columns, os.fspath(path), path.parent, several, places[1:])
    if not any(map(os.path.exists, known.x)):
        raise ValueError(f"{known.places[0]}: there is no file {known.x[0]}, nor any other of the {len(known.x)}")
    return known


def of_columns(
    columns: Mapping[str, list[Any]], where: str, folder: Path, several: bool = False, places: Sequence[str] = ()
) -> Known:
    """Return photos and labels of a column of paths; then one of labels, or several of 0 and 1, one for each label.

    Parameters
    ----------
    columns : dict of lists
    where : str
        What the columns are of, for messages.
    folder : Path
        The folder that paths are relative to.
    several : bool
        As for `known_data`.
    places : sequence of str
        What messages call each row.

    Examples
    --------
    >>> known = of_columns({"path": ["a.jpg", "b.jpg"], "label": ["cat", "cat;dog"]}, "the table", Path("pets"))
    >>> known.x, known.y
    (['pets/a.jpg', 'pets/b.jpg'], [['cat'], ['cat', 'dog']])
    """
    names = list(columns)
    path = next((name for name in names if name.lower() in _PATHS), names[0])
    places = places or [f"{where}: row {number}" for number in range(1, len(columns[path]) + 1)]
    for place, cell in zip(places, columns[path], strict=True):
        if not _text(cell):
            raise ValueError(f"{place}: no path in the column {path!r}")
    paths = [os.fspath(folder / os.fspath(cell)) for cell in columns[path]]
    label = next((name for name in names if name != path and name.lower() in LABELS), None)
    others = [name for name in names if name != path]
    if label is None and len(others) == 1:
        (label,) = others
    if label is not None:
        y = known_labels(columns[label], several, places)
        if not isinstance(y, list):
            _check_contradictions(paths, y.tolist(), places)
        return Known(paths, y, places=places)
    if not others:
        raise ValueError(f"{where}: has the column {path!r} only, expected one of labels, too")
    flags = [[_flag(cell, name, place) for place, cell in zip(places, columns[name], strict=True)] for name in others]
    return Known(paths, np.array(flags, np.float32).T, others, places)


def _check_contradictions(paths: Sequence[str], labels: Sequence[Any], places: Sequence[str]) -> None:
    """Refuse a photo that is listed with two labels: rows for each label are not how several are given."""
    known: dict[str, int] = {}
    for i, (path, label) in enumerate(zip(paths, labels, strict=True)):
        first = known.setdefault(path, i)
        if labels[first] != label:
            raise ValueError(
                f"{places[i]}: {path} has the label {str(label)!r}, but {str(labels[first])!r} before "
                f"({places[first]}), expected several labels in one cell, with | between them"
            )


def known_labels(cells: Sequence[Any], several: bool = False, places: Sequence[str] = ()) -> Any:
    """Return what the cells of a column stand for: an array of names or numbers, or a list of names for each input.

    Parameters
    ----------
    cells : sequence
        Text with | or ; between several labels, a list of labels, or a label.
    several : bool
        As for `known_data`.
    places : sequence of str
        What messages call the cells.

    Raises
    ------
    ValueError
        Where a cell has no label, though no other one has several.

    Examples
    --------
    >>> known_labels(["cat", "dog"]).tolist(), known_labels(["cat|dog", ""]), known_labels([3, 1]).tolist()
    (['cat', 'dog'], [['cat', 'dog'], []], [3, 1])
    """
    if several or any(isinstance(cell, (list, tuple)) or _BETWEEN.search(_text(cell)) for cell in cells):
        return [
            [str(part) for part in cell]
            if isinstance(cell, (list, tuple))
            else [part.strip() for part in _BETWEEN.split(_text(cell)) if part.strip()]
            for cell in cells
        ]
    texts = [_text(cell) for cell in cells]
    if "" in texts:
        row = texts.index("")
        raise ValueError(f"{places[row] if places else f'row {row + 1}'}: no label, expected the name of a class")
    are_numbers = not any(isinstance(cell, str) for cell in cells) and all(text.isdecimal() for text in texts)
    return np.array([int(text) for text in texts]) if are_numbers else np.array(texts)


def _text(cell: Any) -> str:
    """Return a cell as text: "" for those that are missing, which data frames call None or NaN."""
    is_missing = cell is None or (isinstance(cell, (float, np.floating)) and cell != cell)
    return "" if is_missing else str(cell).strip()


def _flag(cell: Any, name: str, place: str) -> float:
    text = _text(cell).lower()
    known = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0, "": 0.0}
    if text not in known:
        raise ValueError(
            f"{place}: the column {name!r} has {text[:40]!r}, expected 0 or 1, as no column is named 'label'"
        )
    return known[text]

"""Photos by the million: classified by the processes of a Ray cluster, as rows or as files.

classifier.py is what each process does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn._arguments import as_choice, as_int
from fastcnn._progress import Progress
from fastcnn._replace import replacing
from fastcnn.distributed._ray import connect, ray_module
from fastcnn.distributed.classifier import SUFFIXES, Classifier, Writer, part_path
from fastcnn.io.image import find_images
from fastcnn.network import Network
from fastcnn.training.answers import ways_of

__all__ = ["classify"]

_PART = 256  # photos in a file, and in a call of a process
_RECORD = "fastcnn.json"  # what the files of a folder are of


def classify(
    photos: Any,
    model: Network,
    *,
    top: int | None = None,
    output: str | os.PathLike[str] | None = None,
    format: str = "parquet",
    workers: int | None = None,
    threads: int | None = None,
    address: str | None = None,
    part: int = _PART,
    progress: bool | None = None,
) -> Any:
    """Classify photos by the processes of a Ray cluster.

    Photos that cannot be read are rows with an error. Memory does not grow with the number of photos, but for their
    paths. A process that dies is replaced, and its photos are classified again.

    Parameters
    ----------
    photos : path, pattern, folder, sequence of paths, or ray.data.Dataset
        Every machine must find the paths. A data set has a column "path", and "bytes" where the files are read already
        (`ray.data.read_binary_files(..., include_paths=True)`).
    model : Model
        Its weights lie in the object store once on a machine.
    top : int, optional
        Classes to name; by default 5, or all labels above one half.
    output : path-like, optional
        A folder for files of answers, which every machine must find. Files that are there are not made again, so that
        the same call goes on where an earlier one ended. Without it, the answers are rows that are computed when they
        are read.
    format : {"parquet", "jsonl", "csv"}
        Of the files.
    workers : int, optional
        Processes; by default one on each machine.
    threads : int, optional
        Of each; by default all CPUs of the smallest machine.
    address : str, optional
        Of the cluster, such as "auto"; by default the one that the program is connected to, else a new one of this
        machine.
    part : int
        Photos in a file.
    progress : bool, optional
        As for `Model.fit`, while files are written.

    Returns
    -------
    ray.data.Dataset
        Rows with "path", "labels", "probabilities", "indices", and "error", which is None for a good photo. Of files,
        the rows as they are in the files.

    Raises
    ------
    ValueError, TypeError
        Naming the argument. So does a folder with answers about other photos, or of another model.
    FileNotFoundError
        If a path stands for nothing.
    ImportError
        Without fastcnn[ray].

    Examples
    --------
    >>> classify("photos/", "model.safetensors")
    Traceback (most recent call last):
    ...
    TypeError: classify: model is of type str, expected a Model
    """
    if not isinstance(model, Network):
        raise TypeError(f"classify: model is of type {type(model).__name__}, expected a Model")
    as_choice(format, "classify: format", SUFFIXES)
    for name, value in (("top", top), ("workers", workers), ("threads", threads), ("part", part)):
        if value is not None:
            as_int(value, f"classify: {name}", 1)
    ways_of(model)
    ray = ray_module("classify")
    connect(ray, address, (workers or 1) * (threads or 1))
    ray_module("classify", "ray.data")
    is_dataset = isinstance(photos, ray.data.Dataset)
    if is_dataset and output is not None:
        raise ValueError("classify: output is for paths: write the rows of a data set by its write_parquet")
    workers, threads = _team(ray, workers, threads, spare=is_dataset)
    holder = [ray.put(model)]
    if is_dataset:
        return _rows(ray, photos, (holder, top, threads), workers, part)
    paths = [os.fsencode(path) for path in find_images(photos)]
    if output is None:
        blocks = max(1, -(-len(paths) // part))
        given = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=blocks)
        return _rows(ray, given, (holder, top, threads), workers, part)
    folder = os.path.abspath(os.fspath(output))
    _begin(folder, {"photos": len(paths), "paths": _digest(paths), "model": _of_model(model), "top": top,
                    "format": format, "part": part})  # fmt: skip
    _write(ray, paths, (holder, top, threads, folder, format), workers, part, progress)
    read = {"parquet": ray.data.read_parquet, "jsonl": ray.data.read_json, "csv": ray.data.read_csv}[format]
    return read([str(part_path(folder, i, format)) for i in range(-(-len(paths) // part))])


def _team(ray: Any, workers: int | None, threads: int | None, spare: bool) -> tuple[int, int]:
    """Settle how many processes there are, and their threads; a CPU is left to whoever reads a data set."""
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    machines = [cpus for cpus in machines if cpus] or [1]
    workers = workers or len(machines)
    return workers, threads or max(1, min(machines) // -(-workers // len(machines)) - spare)


def _rows(ray: Any, given: Any, arguments: tuple[Any, ...], workers: int, part: int) -> Any:
    return given.map_batches(
        Classifier,
        batch_size=part,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=arguments[2],
        fn_constructor_args=arguments,
    )


def _write(
    ray: Any, paths: Sequence[bytes], arguments: tuple[Any, ...], workers: int, part: int, progress: bool | None
) -> None:
    """Write the files that are not there yet."""
    folder, kind = arguments[-2:]
    parts = range(-(-len(paths) // part))
    rest = [i for i in parts if not part_path(folder, i, kind).exists()]
    done = len(paths) - sum(len(paths[i * part : (i + 1) * part]) for i in rest)
    with Progress("classifying", len(paths), progress, "photos") as shown:
        shown.update(done)
        if not rest:
            return
        rows = [{"part": i, "paths": paths[i * part : (i + 1) * part]} for i in rest]
        given = ray.data.from_items(rows, override_num_blocks=len(rows))
        written = given.map_batches(
            Writer,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rest))),
            num_cpus=arguments[2],
            fn_constructor_args=arguments,
        )
        for row in written.iter_rows():
            shown.update(row["photos"])


def _begin(folder: str, record: dict[str, Any]) -> None:
    """Make the folder; one that is there must be of the same photos, model and settings."""
    os.makedirs(folder, exist_ok=True)
    path = Path(folder, _RECORD)
    if path.exists():
        known = json.loads(path.read_text())
        for name, value in record.items():
            if known.get(name) != value:
                raise ValueError(
                    f"classify: output={folder}: its answers are of {name}={known.get(name)}, got {value}: give "
                    "another folder"
                )
        return
    if any(not name.startswith(".fastcnn-") for name in os.listdir(folder)):
        raise ValueError(f"classify: output={folder}: the folder holds other files, expected a new or an empty one")
    with replacing(path) as file:
        file.write(json.dumps(record).encode())


def _digest(parts: Sequence[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for content in parts:
        digest.update(b"%d " % len(content) + content)
    return digest.hexdigest()


def _of_model(model: Network) -> str:
    def parts() -> Iterator[bytes]:
        yield repr((model.classes, model.task, model.preprocess, model.input_shape)).encode()
        for name, array in sorted(model.state_dict().items()):
            yield name.encode()
            yield np.ascontiguousarray(array).tobytes()

    return _digest(list(parts()))

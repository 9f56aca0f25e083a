"""What a process does that classifies photos: threads decode some ahead, the network names them, and files are written.

classify.py starts these processes. Ray Data calls them with tables of photos.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from fastcnn._replace import replacing
from fastcnn.errors import ImageError
from fastcnn.kernels import _cpu
from fastcnn.training.answers import CSV_COLUMNS, answer_of, csv_rows, ways_of

__all__ = ["SUFFIXES", "Classifier", "Writer", "part_path", "table_of"]

_TOGETHER = 16  # photos that go through the network at once: docs/tuning.md, "Many machines"
_DECODERS = 2  # threads: likewise
SUFFIXES = {"parquet": ".parquet", "jsonl": ".jsonl", "csv": ".csv"}


class Classifier:
    """Answers for the photos of tables.

    Parameters
    ----------
    holder : list of ObjectRef
        The model, in the object store: its weights are mapped, and exist once on a machine.
    top : int or None
    threads : int
    """

    def __init__(self, holder: list[Any], top: int | None, threads: int) -> None:
        import ray

        with suppress(ValueError):  # within a thread, signals are left as they are
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        _cpu.set_num_threads(threads)
        self.model = ray.get(holder[0])
        self.model.reproducible = True  # batches of any size name the same, to the bit
        self.top = top
        self._load, self._join = ways_of(self.model)
        self._pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="fastcnn-photos")

    def __call__(self, table: Any) -> Any:
        names = [os.fsdecode(name) for name in table["path"].to_pylist()]
        contents = table["bytes"].to_pylist() if "bytes" in table.column_names else names
        return table_of(self.answers(names, contents))

    def answers(self, names: Iterable[str], contents: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Yield an answer for each photo, in order; few are in memory at a time."""
        photos = zip(names, contents, strict=True)
        ahead: deque[tuple[str, Future[Any]]] = deque()

        def fill(count: int) -> None:
            for name, content in islice(photos, count - len(ahead)):
                ahead.append((name, self._pool.submit(self._decoded, content)))

        fill(_TOGETHER)
        while ahead:
            batch = [(name, future.result()) for name, future in ahead]
            ahead.clear()
            fill(_TOGETHER)  # is decoded while the network works
            good = [content for _, content in batch if not isinstance(content, str)]
            found = iter(self.model.predict_proba(self._join(good)) if good else ())
            for name, content in batch:
                shown = os.fsencode(name).decode("utf-8", "backslashreplace")
                if isinstance(content, str):
                    yield {"path": shown, "error": content}
                else:
                    yield answer_of(self.model, shown, next(found), self.top)

    def _decoded(self, content: Any) -> Any:
        """A photo as the network takes it, or what is wrong with it."""
        try:
            return self._load(io.BytesIO(content) if isinstance(content, bytes) else content)
        except (ImageError, OSError) as error:
            return str(error)


class Writer(Classifier):
    """Writes the answers for each part of the photos to a file of its own, which is complete or not there.

    Parameters
    ----------
    holder, top, threads
        As for `Classifier`.
    folder : str
    kind : {"parquet", "jsonl", "csv"}
    """

    def __init__(self, holder: list[Any], top: int | None, threads: int, folder: str, kind: str) -> None:
        super().__init__(holder, top, threads)
        self.folder, self.kind = folder, kind

    def __call__(self, table: Any) -> Any:
        import pyarrow

        rows = []
        for part, paths in zip(table["part"].to_pylist(), table["paths"].to_pylist(), strict=True):
            names = [os.fsdecode(path) for path in paths]
            answers = list(self.answers(names, names))
            with replacing(part_path(self.folder, part, self.kind)) as file:
                file.write(_as_bytes(answers, self.kind))
            rows.append({"part": part, "photos": len(paths), "errors": sum("error" in answer for answer in answers)})
        return pyarrow.Table.from_pylist(rows)


def part_path(folder: str, part: int, kind: str) -> Path:
    """Return the file of a part."""
    return Path(folder, f"part-{part:06d}{SUFFIXES[kind]}")


def table_of(answers: Iterable[dict[str, Any]]) -> Any:
    """Return answers as a table of Arrow's: path, labels, probabilities, indices, error."""
    import pyarrow as pa

    kinds = {"labels": pa.string(), "probabilities": pa.float32(), "indices": pa.int64()}
    schema = pa.schema(
        [("path", pa.string()), *((name, pa.list_(kind)) for name, kind in kinds.items()), ("error", pa.string())]
    )
    rows = []
    for answer in answers:
        named = answer.get("predictions", ())
        rows.append(
            {
                "path": answer["path"],
                "labels": [entry["label"] for entry in named],
                "probabilities": [entry["probability"] for entry in named],
                "indices": [entry["index"] for entry in named],
                "error": answer.get("error"),
            }
        )
    return pa.Table.from_pylist(rows, schema)


def _as_bytes(answers: list[dict[str, Any]], kind: str) -> bytes:
    """The content of a file."""
    if kind == "parquet":
        import pyarrow.parquet

        sink = io.BytesIO()
        pyarrow.parquet.write_table(table_of(answers), sink)
        return sink.getvalue()
    text = io.StringIO()
    if kind == "jsonl":
        text.writelines(json.dumps(answer) + "\n" for answer in answers)
    else:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(CSV_COLUMNS)
        rows.writerows(row for answer in answers for row in csv_rows(answer))
    return text.getvalue().encode()

"""Work that takes longer than a request: a thread does it once for each key, and requests ask how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fastcnn._web import Refused

__all__ = ["Jobs", "Tell"]

Tell = Callable[[int, int], None]
_KEPT = 8  # results


class _Job:
    def __init__(self) -> None:
        self.done = self.count = 0
        self.result: Any = None
        self.error: Exception | None = None
        self.is_over = threading.Event()


class Jobs:
    """What was computed last, and what is being computed.

    Examples
    --------
    >>> jobs = Jobs()
    >>> jobs.ask("sum", lambda tell: 1 + 1, wait=10)
    {'result': 2}
    """

    def __init__(self) -> None:
        self._jobs: dict[object, _Job] = {}
        self._lock = threading.Lock()

    def ask(self, key: object, work: Callable[[Tell], Any], wait: float = 0.2) -> dict[str, Any]:
        """Return ``{"result": ...}``, or ``{"done": ..., "count": ...}`` while the work goes on.

        Parameters
        ----------
        key : hashable
            Work of the same key is done once; after a failure, once more for the next who asks.
        work : callable
            Is given a function to tell how much is done, and of how much.
        wait : float
            Seconds to wait for the result.

        Raises
        ------
        Refused, ValueError, OSError
            What the work raises.
        """
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                job = self._jobs[key] = _Job()
                threading.Thread(target=self._run, args=(job, work), daemon=True).start()
                for old in list(self._jobs)[:-_KEPT]:
                    if self._jobs[old].is_over.is_set():
                        del self._jobs[old]
        if not job.is_over.wait(wait):
            return {"done": job.done, "count": job.count}
        if job.error is not None:
            with self._lock:
                if self._jobs.get(key) is job:
                    del self._jobs[key]
            raise job.error if isinstance(job.error, Refused) else Refused(500, f"{job.error}") from job.error
        return {"result": job.result}

    def _run(self, job: _Job, work: Callable[[Tell], Any]) -> None:
        def tell(done: int, count: int) -> None:
            job.done, job.count = done, count

        try:
            job.result = work(tell)
        except Exception as error:  # whoever asks is told
            job.error = error
        finally:
            job.is_over.set()

"""Calibration: whether a network is right as often as it says. Guo et al., "On Calibration of Modern Neural Networks",
2017.

What a report says beside it is report.py's and label_report.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn._table import Columns

__all__ = ["Calibration", "ReliabilityBin", "calibration_of"]

_BINS = 15  # as in Guo et al.
_SIDE, _MARGIN = 240, 34  # of the diagram, in pixels


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose confidence is above `low`, and at most `high`.

    Attributes
    ----------
    low, high : float
    count : int
    confidence : float
        Mean confidence.
    accuracy : float
        Share of the predictions that are right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy are apart; ``print`` shows the reliability diagram as a table.

    Attributes
    ----------
    error : float
        Expected calibration error: the mean of ``abs(accuracy - confidence)`` over the predictions, bin by bin.
    bins : list of ReliabilityBin
        Those that have predictions, of 15 of equal width.
    """

    error: float
    bins: Sequence[ReliabilityBin]

    def __str__(self) -> str:
        rows = [("confidence", "mean", "accuracy", "count")]
        for b in self.bins:
            limits = f"{100 * b.low:.0f} to {100 * b.high:3.0f} %"
            rows.append((limits, f"{100 * b.confidence:.1f} %", f"{100 * b.accuracy:.1f} %", str(b.count)))
        columns = Columns.around(rows)
        lines = [f"expected calibration error {100 * self.error:.1f} %{self._leaning()}", *map(columns.line, rows)]
        return "\n".join(lines)

    def _leaning(self) -> str:
        count = sum(b.count for b in self.bins)
        surplus = sum(b.count * (b.confidence - b.accuracy) for b in self.bins) / max(count, 1)
        if abs(surplus) < max(self.error / 2, 0.005):
            return ""
        return ": the network is too sure" if surplus > 0 else ": the network is not sure enough"

    def _repr_html_(self) -> str:
        """What notebooks and pages show: the reliability diagram, as SVG."""
        inner = _SIDE - 2 * _MARGIN

        def at(x: float, y: float) -> tuple[float, float]:
            return _MARGIN + inner * x, _SIDE - _MARGIN - inner * y

        parts = []
        for b in self.bins:
            left, top = at(b.low, b.accuracy)
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{inner * (b.high - b.low):.1f}" '
                f'height="{inner * b.accuracy:.1f}"><title>{b.count} predictions</title></rect>'
            )
        (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
        words = (
            f'<text x="{_SIDE / 2}" y="{_SIDE - 8}" text-anchor="middle">confidence</text>'
            f'<text x="{-_SIDE / 2}" y="14" text-anchor="middle" transform="rotate(-90)">accuracy</text>'
            f'<text x="{_SIDE / 2}" y="20" text-anchor="middle">calibration error {100 * self.error:.1f} %</text>'
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_SIDE}" height="{_SIDE}" font-family="sans-serif" '
            f'font-size="12" fill="#3b76b5" role="img"><title>Reliability diagram</title>{"".join(parts)}'
            f'<path d="M{x0} {y1}V{y0}H{x1}M{x0} {y0}L{x1} {y1}" fill="none" stroke="#888"/>'
            f'<g fill="#444">{words}</g></svg>'
        )

    def draw(self, figure: Any) -> None:
        """Draw the reliability diagram on a figure of matplotlib's."""
        axes = figure.add_subplot()
        axes.bar(
            [b.low for b in self.bins],
            [b.accuracy for b in self.bins],
            [b.high - b.low for b in self.bins],
            align="edge",
            edgecolor="white",
        )
        axes.plot([0, 1], [0, 1], color="grey", linestyle="--")
        title = f"Expected calibration error: {100 * self.error:.1f} %"
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=title)


def calibration_of(confidence: np.ndarray, is_right: np.ndarray) -> Calibration:
    """Compare confidences with outcomes.

    Parameters
    ----------
    confidence : ndarray (N,)
        Probability of what is predicted, from 0 to 1.
    is_right : ndarray (N,) of bool
        Whether the prediction is right.

    Examples
    --------
    >>> print(calibration_of(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, True, True, False])))
    expected calibration error 10.0 %
     confidence    mean  accuracy  count
    53 to  60 %  60.0 %    50.0 %      2
    87 to  93 %  90.0 %   100.0 %      2
    """
    confidence = np.nan_to_num(confidence.astype(np.float64))
    places = np.clip(np.ceil(np.round(confidence * _BINS, 6)) - 1, 0, _BINS - 1).astype(np.intp)
    counts = np.bincount(places, minlength=_BINS)
    sure = np.bincount(places, confidence, _BINS)
    right = np.bincount(places, is_right, _BINS)
    bins = [
        ReliabilityBin(
            i / _BINS, (i + 1) / _BINS, int(counts[i]), float(sure[i] / counts[i]), float(right[i] / counts[i])
        )
        for i in np.flatnonzero(counts).tolist()
    ]
    return Calibration(float(np.abs(right - sure).sum() / max(len(confidence), 1)), bins)

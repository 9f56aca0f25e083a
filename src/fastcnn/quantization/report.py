"""What quantising does to a network: of each layer the range and the error, of the network the predictions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastcnn._figure import drawn
from fastcnn._table import as_html, as_table

__all__ = ["LayerReport", "QuantizationReport", "decibels"]

_HEADINGS = ("layer", "op", "type", "low", "high", "clipped %", "signal/noise dB")


@dataclass(frozen=True)
class LayerReport:
    """One layer of a quantised network.

    Parameters
    ----------
    name : str
        Of the layer, or of the node.
    op : str
        ONNX operator, with the function that is computed on the way: "Conv+Relu".
    type : {"int8", "float32"}
        How it computes.
    low, high : float or None
        The range that the 8 bits of its output stand for; None where the output is float32.
    clipped : float or None
        Share of the output's values outside of the range.
    signal_to_noise : float
        In decibels: the power of its float32 output over that of the error, which earlier layers have added to.

    Examples
    --------
    >>> LayerReport("conv1", "Conv", "int8", -1.0, 1.0, 0.0, 40.0).type
    'int8'
    """

    name: str
    op: str
    type: str
    low: float | None
    high: float | None
    clipped: float | None
    signal_to_noise: float


@dataclass(frozen=True)
class QuantizationReport:
    """What `Model.quantize` has done; ``print`` shows it as text.

    Parameters
    ----------
    layers : list of LayerReport
        In the order of execution.
    method : str
        How ranges were found.
    samples : int
        Inputs that the network was calibrated with.
    signal_to_noise : float
        Of the network's output, in decibels.
    agreement : float or None
        Share of the calibration inputs whose prediction is that of float32; None of networks that name no classes.
    accuracy, float_accuracy : float or None
        On the validation data, in 8 bits and in float32.
    float_layers : list of str
        Layers that `max_drop` has put back to float32.
    weight_bytes, float_weight_bytes : int
        What the constants take, in 8 bits and in float32.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import zoo
    >>> report = zoo.lenet(rng=0).quantize(np.random.default_rng(0).random((8, 1, 28, 28))).quantization
    >>> report.layers[0].name, report.layers[0].type, report.agreement, report.drop
    ('conv1', 'int8', 1.0, 0.0)
    >>> report.to_dict()["method"], len(report.plot().axes)
    ('minmax', 2)
    """

    layers: list[LayerReport]
    method: str
    samples: int
    signal_to_noise: float
    agreement: float | None
    accuracy: float | None
    float_accuracy: float | None
    float_layers: list[str]
    weight_bytes: int
    float_weight_bytes: int

    @property
    def drop(self) -> float | None:
        """Points of accuracy that 8 bits lose, or without validation data points of agreement; None if unknown."""
        if self.accuracy is not None and self.float_accuracy is not None:
            return 100 * (self.float_accuracy - self.accuracy)
        return None if self.agreement is None else 100 * (1 - self.agreement)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain numbers, strings, lists and dicts, for `json.dump`.

        Returns
        -------
        dict
        """
        return {**asdict(self), "drop": self.drop}

    def __str__(self) -> str:
        table = as_table([_HEADINGS, *(_cells(layer) for layer in self.layers)], (0, 1, 2))
        return "\n".join([table, "", *self._lines()])

    def _lines(self) -> list[str]:
        count = sum(layer.type == "int8" for layer in self.layers)
        lines = [
            f"{count} of {len(self.layers)} layers in 8 bits, calibrated by {self.method} with {self.samples} inputs",
            f"constants {self.weight_bytes / 1e6:.2f} MB, in float32 {self.float_weight_bytes / 1e6:.2f} MB",
            f"signal/noise of the output {self.signal_to_noise:.1f} dB",
        ]
        if self.agreement is not None:
            lines.append(f"same prediction as float32 for {100 * self.agreement:.2f} % of the calibration inputs")
        if self.accuracy is not None and self.float_accuracy is not None:
            lines.append(f"accuracy {100 * self.accuracy:.2f} %, in float32 {100 * self.float_accuracy:.2f} %")
        if self.float_layers:
            lines.append(f"float32 again: {', '.join(self.float_layers)}")
        return lines

    def _repr_html_(self) -> str:
        return as_html(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw signal to noise, and the share of clipped values, of each layer.

        Parameters
        ----------
        path : path-like, optional
            Image to write; the suffix (.png, .svg, .pdf) names the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib, which ``pip install "fastcnn[plot]"`` brings.
        """
        return drawn("QuantizationReport.plot", (9, 2 + 0.22 * len(self.layers)), self._draw, path)

    def _draw(self, figure: Any) -> None:
        noise, clipped = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(self.layers))
        finite = [min(layer.signal_to_noise, 100.0) for layer in self.layers]
        colours = ["tab:blue" if layer.type == "int8" else "tab:grey" for layer in self.layers]
        noise.barh(places, finite, color=colours)
        noise.set_yticks(places, [layer.name for layer in self.layers])
        noise.invert_yaxis()
        noise.set(xlabel="signal/noise, dB", title=f"{self.method}; grey: float32")
        clipped.barh(places, [100 * (layer.clipped or 0.0) for layer in self.layers], color=colours)
        clipped.set(xlabel="clipped, %", title="" if self.drop is None else f"{self.drop:.2f} points lost")


def _cells(layer: LayerReport) -> Sequence[str]:
    low, high = ("" if end is None else f"{end:.4g}" for end in (layer.low, layer.high))
    clipped = "" if layer.clipped is None else f"{100 * layer.clipped:.3f}"
    return layer.name, layer.op, layer.type, low, high, clipped, f"{layer.signal_to_noise:.1f}"


def decibels(signal: float, noise: float) -> float:
    """The ratio of two powers in decibels; at most 200, which stands for no noise.

    Examples
    --------
    >>> decibels(100.0, 1.0), decibels(1.0, 0.0)
    (20.0, 200.0)
    """
    if noise <= 0:
        return 200.0
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -200.0, 200.0))

"""Networks in 8 bits: ranges of values by calibration, integers in place of weights, and reports on the errors."""

from __future__ import annotations

from fastcnn.quantization.report import LayerReport, QuantizationReport

__all__ = ["LayerReport", "QuantizationReport"]

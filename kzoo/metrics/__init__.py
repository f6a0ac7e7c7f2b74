"""Measures of detectors: mean average precision, curves, confusion, and a detector's run over a data set."""

from kzoo.metrics.mean_average_precision import MeanAveragePrecision

__all__ = ["MeanAveragePrecision"]

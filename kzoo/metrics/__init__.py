"""Measures of detectors: mean average precision, curves, confusion, and a detector's run over a data set."""

from kzoo.metrics.confusion import ConfusionMatrix
from kzoo.metrics.curves import PrecisionRecallCurve, best_f1_threshold, precision_recall_curves
from kzoo.metrics.evaluation import evaluate
from kzoo.metrics.mean_average_precision import MeanAveragePrecision
from kzoo.metrics.worst import ImageErrors, worst_images

__all__ = [
    "ConfusionMatrix",
    "ImageErrors",
    "MeanAveragePrecision",
    "PrecisionRecallCurve",
    "best_f1_threshold",
    "evaluate",
    "precision_recall_curves",
    "worst_images",
]

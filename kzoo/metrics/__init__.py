"""Measures of detectors (mean average precision, curves, confusion), of label maps (IoU, boundaries) and of cells."""

from kzoo.metrics.cells import CellMeasures, object_jaccards, rand_scores, warping_error
from kzoo.metrics.confusion import ConfusionMatrix
from kzoo.metrics.curves import PrecisionRecallCurve, best_f1_threshold, precision_recall_curves
from kzoo.metrics.evaluation import evaluate
from kzoo.metrics.localization import GRADES, Localization, grade
from kzoo.metrics.mean_average_precision import MeanAveragePrecision
from kzoo.metrics.proposal_recall import ProposalRecall
from kzoo.metrics.segmentation import BoundaryF1, MeanIoU
from kzoo.metrics.segmentation_measures import SegmentationMeasures
from kzoo.metrics.worst import ImageErrors, worst_images

__all__ = [
    "GRADES",
    "BoundaryF1",
    "CellMeasures",
    "ConfusionMatrix",
    "ImageErrors",
    "Localization",
    "MeanAveragePrecision",
    "MeanIoU",
    "PrecisionRecallCurve",
    "ProposalRecall",
    "SegmentationMeasures",
    "best_f1_threshold",
    "evaluate",
    "grade",
    "object_jaccards",
    "precision_recall_curves",
    "rand_scores",
    "warping_error",
    "worst_images",
]

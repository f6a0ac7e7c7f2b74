"""Precision, recall and F1 of each class against the score threshold: to draw, and to pick a threshold by."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kzoo.metrics.mean_average_precision import MeanAveragePrecision
from kzoo.metrics.outcomes import outcomes


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """One class: point i is what remains with the detections of score `scores[i]` and above.

    Attributes:
        scores: (P,) falling; every score that occurs, once.
        recall: (P,) 0..1, rising. All 0 where there is no true box.
        precision: (P,) 0..1; 0 where no detection counts.
        num_objects: true boxes that count; without any, neither recall nor F1 means something.
    """

    scores: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    num_objects: int

    @property
    def f1(self) -> np.ndarray:
        """(P,) harmonic mean of precision and recall, 0 where both are 0."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total > 0, total, 1)

    def best_f1(self) -> dict[str, float]:
        """Returns {"score", "f1", "precision", "recall"} at the score threshold with the best F1.

        Of equals the highest score; all 0 where nothing was found.
        """
        if not self.scores.size:
            return {"score": 0.0, "f1": 0.0, "precision": 0.0, "recall": 0.0}
        i = int(np.argmax(self.f1))
        values = {"score": self.scores, "f1": self.f1, "precision": self.precision, "recall": self.recall}
        return {name: float(value[i]) for name, value in values.items()}

    def precision_at(self, recalls: np.ndarray) -> np.ndarray:
        """(R,) the best precision at each recall or a higher one; 0 beyond the last; NaN without a true box."""
        if not self.num_objects:
            return np.full(np.shape(recalls), np.nan)
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        return np.r_[envelope, 0.0][np.searchsorted(self.recall, recalls)]

    def f1_at(self, thresholds: np.ndarray) -> np.ndarray:
        """(T,) F1 of the detections with a score of at least each threshold; NaN without a true box."""
        if not self.num_objects:
            return np.full(np.shape(thresholds), np.nan)
        remaining = np.searchsorted(-self.scores, -np.asarray(thresholds), "right")
        return np.r_[0.0, self.f1][remaining]


def precision_recall_curves(metric: MeanAveragePrecision, iou: float = 0.5) -> dict[str | int, PrecisionRecallCurve]:
    """Curves of each class at one IoU.

    Args:
        metric: after its `update_state` calls; its protocol says how boxes are matched.
        iou: threshold.

    Returns:
        class name (or label, without `class_names`) -> curve, for the same classes as `result()["per_class"]`.
    """
    found = {}
    for one in outcomes(metric, iou):
        order = np.argsort(-one.score, kind="stable")
        scores = one.score[order]
        true, false = np.cumsum(one.true[order]), np.cumsum(one.false[order])
        # A threshold cannot part equal scores: only the last of each run is a point.
        last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True]) if scores.size else np.zeros(0, np.int64)
        true, false = true[last], false[last]
        found[one.label] = PrecisionRecallCurve(
            scores=scores[last],
            recall=true / max(one.missed.size, 1),
            precision=true / np.maximum(true + false, 1),
            num_objects=one.missed.size,
        )
    absent = PrecisionRecallCurve(np.zeros(0), np.zeros(0), np.zeros(0), 0)
    return {name: found.get(label, absent) for label, name in metric.classes(found)}


def best_f1_threshold(curves: Mapping[str | int, PrecisionRecallCurve]) -> tuple[float, float]:
    """The score threshold with the best F1, averaged over the classes that have true boxes.

    Returns:
        (threshold in 0..1, mean F1); the middle of the best stretch on a grid of 0.001. (0.0, −1.0) without a true box.
    """
    grid = np.linspace(0, 1, 1001)
    measured = [curve.f1_at(grid) for curve in curves.values() if curve.num_objects]
    if not measured:
        return 0.0, -1.0
    mean = np.mean(measured, axis=0)
    first = int(np.argmax(mean))
    stretch = np.flatnonzero(~np.isclose(mean[first:], mean[first], rtol=0, atol=1e-12))
    length = int(stretch[0]) if stretch.size else len(grid) - first
    return float(grid[first + (length - 1) // 2]), float(mean[first])

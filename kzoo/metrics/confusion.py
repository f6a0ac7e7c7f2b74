"""Which classes a detector takes for which."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kzoo.metrics.overlaps import overlapping_pairs
from kzoo.metrics.records import Detections, GroundTruth, Records


class ConfusionMatrix:
    """Counts, for every true class, as what its objects were found.

    Boxes are matched whatever their labels, in each image the pair with the highest IoU first (of equals the higher
    score), every box at most once. Detections left over lie on background, true boxes left over were not found. Crowds
    and difficult boxes do not count, nor do detections left over that lie on one.

    Args:
        num_classes: without background.
        iou: pairs below do not match.
        score: detections below are not looked at.

    Example:
        >>> matrix = ConfusionMatrix(num_classes=2)
        >>> box = np.array([[[10, 10, 50, 40]]])
        >>> matrix.update_state({"boxes": box, "labels": [[0]]}, {"boxes": box, "labels": [[1]], "scores": [[0.9]]})
        >>> matrix.result()
        array([[0, 1, 0],
               [0, 0, 0],
               [0, 0, 0]])
    """

    def __init__(self, num_classes: int, iou: float = 0.5, score: float = 0.25):
        if not 0 < iou <= 1:
            raise ValueError(f"iou must be above 0 and at most 1. Received: {iou}.")
        self.num_classes, self.iou, self.score = num_classes, iou, score
        self.reset_state()

    def reset_state(self) -> None:
        """Forgets all batches."""
        self._matrix = np.zeros((self.num_classes + 1, self.num_classes + 1), np.int64)

    def update_state(self, targets: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Adds a batch; arguments as of `MeanAveragePrecision.update_state`."""
        records = Records()
        records.add(targets, found)
        self.update_from(records)

    def update_from(self, records: Records) -> None:
        """Adds all that a metric has kept: `matrix.update_from(metric.records)`."""
        truth, found = records.ground_truth(), records.detections()
        found = found.take(found.score >= self.score)
        top = max(truth.label.max(initial=-1), found.label.max(initial=-1))
        if top >= self.num_classes:
            raise ValueError(
                f"Label {top} is beyond num_classes={self.num_classes} (labels 0 to {self.num_classes - 1})."
            )
        # Sorted by image as overlapping_pairs wants it: records are in the order of arrival.
        regular = ~(truth.crowd | truth.difficult)
        ignored, truth = truth.take(~regular), truth.take(regular)
        d, g = _match(truth, found, self.iou)
        background = self.num_classes
        left = np.ones(len(found), bool)
        left[d] = False
        left[overlapping_pairs(ignored, found, self.iou)[0]] = False
        missed = np.ones(len(truth), bool)
        missed[g] = False
        np.add.at(self._matrix, (truth.label[g], found.label[d]), 1)
        np.add.at(self._matrix, (background, found.label[left]), 1)
        np.add.at(self._matrix, (truth.label[missed], background), 1)

    def result(self) -> np.ndarray:
        """Returns (C + 1, C + 1) int64 counts.

        Rows are true classes, columns what was found; the last row holds detections on background, the last column
        objects that were not found.
        """
        return self._matrix.copy()


def _match(truth: GroundTruth, found: Detections, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (rows of found, rows of truth), greedily by falling IoU.

    A pair that is the best left for both its boxes is what the greedy order would take; all such pairs are taken at
    once, those that share a box with them drop out, and so on until none is left.
    """
    d, g, overlap = overlapping_pairs(truth, found, iou)
    order = np.lexsort((-found.score[d], -overlap))
    d, g = d[order], g[order]
    taken = [(d[:0], g[:0])]
    while d.size:
        place = np.arange(d.size)
        best = np.zeros(d.size, bool)
        best[np.unique(d, return_index=True)[1]] = True
        of_truth = np.unique(g, return_index=True)[1]
        now = np.intersect1d(place[best], of_truth)
        taken.append((d[now], g[now]))
        free = ~np.isin(d, d[now]) & ~np.isin(g, g[now])
        d, g = d[free], g[free]
    return tuple(np.concatenate(parts) for parts in zip(*taken, strict=True))

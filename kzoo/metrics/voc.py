"""PASCAL VOC's average precision of one class (the definitions of the VOC development kit)."""

import numpy as np

from kzoo.metrics.coco import FALSE, IGNORED, TRUE
from kzoo.metrics.overlaps import overlapping_pairs
from kzoo.metrics.records import Detections, GroundTruth

# In floating point, as the scripts that made the published numbers have them: 3 x 0.1 lies a little above a recall of
# 3/10.
ELEVEN_RECALLS = np.linspace(0.0, 1.0, 11)


def match(truth: GroundTruth, found: Detections, threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Matches the detections of one class to its ground truth.

    Each detection looks at the true box of its image with the highest IoU, taken or not. With IoU above the threshold
    it is a true positive if it is the first by score to look at that box, else a false positive; where the box is
    difficult the detection does not count. VOC has no crowds; one is treated as a difficult box that is looked at last,
    its overlap being the intersection over the detection's area, as in COCO.

    Args:
        truth, found: of one class, sorted by image; `found` within an image by falling score.
        threshold: IoU, to be exceeded.

    Returns:
        Outcome of each detection (D,) uint8: FALSE, TRUE or IGNORED; whether each true box was found (G,) bool.
    """
    outcome = np.full(len(found), FALSE, np.uint8)
    taken = np.zeros(len(truth), bool)
    d, g, overlap = overlapping_pairs(truth, found, threshold)
    strict = overlap > threshold
    d, g, overlap = d[strict], g[strict], overlap[strict]
    # Last of each detection: no crowd, highest IoU, first in the file.
    order = np.lexsort((-g, overlap, ~truth.crowd[g], d))
    d, g = d[order], g[order]
    last = np.flatnonzero(np.r_[d[1:] != d[:-1], True]) if d.size else np.zeros(0, np.int64)
    d, g = d[last], g[last]
    ignored = (truth.crowd | truth.difficult)[g]
    outcome[d[ignored]] = IGNORED
    d, g = d[~ignored], g[~ignored]
    # `d` is sorted by image and score, so that the first to name a box is its best-scored detection.
    boxes, first = np.unique(g, return_index=True)
    outcome[d[first]] = TRUE
    taken[boxes] = True
    return outcome, taken


def average_precision(true: np.ndarray, num_positives: int, points: int | None = None) -> float:
    """Average precision of detections in the order of falling score.

    Args:
        true: (D,) bool: which are true positives; the others are false ones.
        num_positives: true boxes that count.
        points: 11 for VOC2007's eleven recalls; `None` for the area under the precision envelope (VOC2010 and later).

    Returns:
        0..1, or −1 if `num_positives` is 0.

    Example:
        >>> round(average_precision(np.array([True, True, False, False, True]), 3), 4)
        0.8667
    """
    if num_positives == 0:
        return -1.0
    at = np.flatnonzero(true)
    found = np.arange(1, at.size + 1)
    # Precision cannot rise between true positives, so the envelope needs no other points.
    envelope = np.maximum.accumulate((found / (at + 1))[::-1])[::-1]
    if points is None:
        return float(envelope.sum() / num_positives)
    reached = np.searchsorted(found / num_positives, ELEVEN_RECALLS)
    return float(np.r_[envelope, 0.0][reached].mean())


def score(truth: GroundTruth, found: Detections, points: int | None) -> float:
    """Average precision of one class at IoU 0.5; arguments as of `match` and `average_precision`."""
    outcome, _ = match(truth, found)
    outcome = outcome[np.argsort(-found.score, kind="stable")]
    positives = int((~(truth.crowd | truth.difficult)).sum())
    return average_precision(outcome[outcome != IGNORED] == TRUE, positives, points)

"""Pairs of a detection and a true box of the same image that overlap enough to matter.

After non-maximum suppression few boxes overlap by half, so that all measures here work on this short list of pairs and
never on a matrix of all boxes against all.
"""

from itertools import pairwise

import numpy as np

from kzoo.metrics.records import Detections, GroundTruth

CHUNK = 1_000_000  # pairs looked at together: some tens of megabytes


def overlapping_pairs(
    truth: GroundTruth, found: Detections, minimum: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists the pairs of one image whose overlap is at least `minimum`, whatever their labels.

    The overlap is the IoU, and with a crowd region the intersection over the detection's area (COCO). It is computed in
    float64 with the operations in the order of COCO's own code, so that comparisons with a threshold fall alike.

    Args:
        truth, found: both sorted by image.
        minimum: above 0.

    Returns:
        Rows of `found` (P,), rows of `truth` (P,), overlaps (P,); sorted by detection, then by true box.
    """
    first = np.searchsorted(truth.image, found.image, "left")
    count = np.searchsorted(truth.image, found.image, "right") - first
    ends = np.cumsum(count)
    total = int(ends[-1]) if ends.size else 0
    cuts = np.searchsorted(ends, np.arange(CHUNK, total, CHUNK), "left") + 1
    cuts = np.unique(np.r_[0, cuts, len(found)])
    parts = [_pairs_of(slice(a, b), first, count, truth, found, minimum) for a, b in pairwise(cuts)]
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _pairs_of(rows: slice, first: np.ndarray, count: np.ndarray, truth: GroundTruth, found: Detections, minimum: float):
    d = np.repeat(np.arange(rows.start, rows.stop), count[rows])
    g = np.arange(d.size) + np.repeat(first[rows] - np.cumsum(count[rows]) + count[rows], count[rows])
    # Most boxes of an image lie apart: drop them axis by axis before the costlier steps.
    width = _common_length(truth, found, g, d, 0)
    near = width > 0
    d, g, width = d[near], g[near], width[near]
    height = _common_length(truth, found, g, d, 1)
    near = height > 0
    d, g, intersection = d[near], g[near], width[near] * height[near]
    area_d, area_g = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (found.boxes[d], truth.boxes[g]))
    overlap = intersection / np.where(truth.crowd[g], area_d, area_d + area_g - intersection)
    enough = overlap >= minimum
    return d[enough], g[enough], overlap[enough]


def _common_length(truth: GroundTruth, found: Detections, g: np.ndarray, d: np.ndarray, axis: int) -> np.ndarray:
    end = np.minimum(found.boxes[:, 2 + axis][d], truth.boxes[:, 2 + axis][g])
    return end - np.maximum(found.boxes[:, axis][d], truth.boxes[:, axis][g])

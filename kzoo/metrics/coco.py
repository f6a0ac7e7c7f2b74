"""COCO's average precision and recall of one class (the definitions of `cocoeval`).

A detection's outcome depends on the threshold and the area range, so all 10 x 4 of them run side by side as trailing
axes (T, A). Within an image detections choose one after another by falling score; images do not influence each other,
so round r handles the r-th choosing detection of every image at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kzoo.metrics.overlaps import overlapping_pairs
from kzoo.metrics.records import Detections, GroundTruth, box_area, rank_within

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)  # of one class in one image
# Areas in square pixels, both ends included.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
AREA_RANGES = tuple(AREAS.values())

FALSE, TRUE, IGNORED = 0, 1, 2  # outcomes of a detection


@dataclass(frozen=True)
class Matches:
    """How the detections of one class fared against its ground truth."""

    rows: np.ndarray  # (P,) detections that overlap some true box enough to choose; all others chose nothing
    outcome: np.ndarray  # (P, T, A) uint8: FALSE, TRUE or IGNORED
    inside: np.ndarray  # (D, A) bool: the area of each detection lies in the range
    taken: np.ndarray  # (G, T, A) bool: the true box was found
    ignored: np.ndarray  # (G, A) bool: crowd, difficult, or area outside of the range


def match(
    truth: GroundTruth,
    found: Detections,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    areas: Sequence[tuple[float, float]] = AREA_RANGES,
) -> Matches:
    """Matches the detections of one class to its ground truth.

    By falling score, each detection takes the free true box with the highest IoU at or above the threshold; only where
    there is none it takes an ignored one, and crowd regions stay free for more. Of equal IoUs the later box wins.
    Ignored are crowds, difficult boxes and those whose `area` is outside of the range. A detection is ignored with the
    box it took, or where it took none and its own area is outside of the range.

    Args:
        truth, found: of one class, sorted by image; `found` within an image by falling score.
        thresholds: (T,) IoU.
        areas: A pairs (least, greatest).
    """
    low, high = np.asarray(areas, np.float64).T
    area = truth.area.astype(np.float64)[:, None]
    ignored = (truth.crowd | truth.difficult)[:, None] | (area < low) | (area > high)
    area = box_area(found.boxes)[:, None]
    inside = (area >= low) & (area <= high)
    # IoU 1 must reach a threshold of 1 in spite of rounding.
    thresholds = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10)

    d, g, overlap = overlapping_pairs(truth, found, float(thresholds.min()))
    rows, chooser = np.unique(d, return_inverse=True)
    outcome = np.where(inside[rows], FALSE, IGNORED).astype(np.uint8)[:, None, :].repeat(len(thresholds), axis=1)
    taken = np.zeros((len(truth), len(thresholds), len(low)), bool)
    if not d.size:
        return Matches(rows, outcome, inside, taken, ignored)

    turn = rank_within(found.image[rows])
    # Sorted so that within a detection the better pair comes later: the greatest position is then the best choice.
    order = np.lexsort((g, overlap, chooser, turn[chooser]))
    g, chooser, reaches = g[order], chooser[order], (overlap[order][:, None] >= thresholds)[:, :, None]
    counts = np.int32 if 2 * d.size < 2**31 else np.int64
    # Any box that counts is preferred to any ignored one, hence the offset.
    preference = np.arange(d.size, dtype=counts)[:, None] + np.where(ignored[g], 0, d.size).astype(counts)
    rounds = np.searchsorted(turn[chooser], np.arange(turn.max() + 2))
    for start, stop in pairwise(rounds):
        now = slice(start, stop)
        free = reaches[now] & ~taken[g[now]]
        starts = np.flatnonzero(np.r_[True, chooser[start + 1 : stop] != chooser[start : stop - 1]])
        best = np.maximum.reduceat(np.where(free, preference[now, None, :], -1), starts, axis=0)
        who, t, a = np.nonzero(best >= 0)
        best = best[who, t, a]
        outcome[chooser[now][starts][who], t, a] = np.where(best >= d.size, TRUE, IGNORED)
        box = g[best % d.size]
        taken[box, t, a] = ~truth.crowd[box]
    return Matches(rows, outcome, inside, taken, ignored)


@dataclass(frozen=True)
class ClassScores:
    """Average precision and recall of one class; −1 where no true box counts."""

    precision: np.ndarray  # (T, A), mean over the 101 recalls, at most 100 detections of the class in an image
    recall: np.ndarray  # (T, A, M), the recall reached with at most M detections


def score(truth: GroundTruth, found: Detections) -> ClassScores:
    """Measures one class; arguments as of `match`."""
    rank = rank_within(found.image)
    found = found.take(rank < MAX_DETECTIONS[-1])
    rank = rank[rank < MAX_DETECTIONS[-1]]
    matches = match(truth, found)
    positives = (~matches.ignored).sum(axis=0)
    true = matches.outcome == TRUE
    recall = np.stack([true[rank[matches.rows] < limit].sum(axis=0) for limit in MAX_DETECTIONS], axis=-1)
    recall = recall / np.maximum(positives, 1)[:, None]
    precision = _mean_precision(matches, np.argsort(-found.score, kind="stable"), positives)
    absent = positives == 0
    precision[:, absent], recall[:, absent] = -1.0, -1.0
    return ClassScores(precision, recall)


def _mean_precision(matches: Matches, by_score: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Returns (T, A): the mean over COCO's 101 recalls of the best precision reached at that recall or a higher one.

    Precision is needed at true positives only: between them it cannot rise. There, the detections that count so far are
    the true positives so far and the false ones, which are told from two running sums: one over all detections as if
    none had chosen, and a correction over the few that chose.
    """
    place = np.empty(len(by_score), np.int64)
    place[by_score] = np.arange(len(by_score))
    rows = np.argsort(place[matches.rows])
    where, outcome = matches.rows[rows], matches.outcome[rows]
    true, inside = outcome == TRUE, matches.inside[where][:, None, :]
    seen = np.cumsum(matches.inside[by_score], axis=0, dtype=np.int32)[place[where]][:, None, :]
    seen = seen + np.cumsum((outcome != IGNORED).astype(np.int8) - inside.astype(np.int8), axis=0, dtype=np.int32)
    found = np.cumsum(true, axis=0, dtype=np.int32)

    num_thresholds, num_areas = outcome.shape[1:]
    # One row a true positive, in order of score; the last row stays 0 for recalls that are never reached.
    envelope = np.zeros((int(positives.max(initial=0)) + 1, num_thresholds, num_areas))
    i, t, a = np.nonzero(true)
    envelope[found[i, t, a] - 1, t, a] = found[i, t, a] / seen[i, t, a]
    envelope = np.maximum.accumulate(envelope[::-1], axis=0)[::-1]
    mean = np.zeros((num_thresholds, num_areas))
    for range_, count in enumerate(positives):
        reached = np.searchsorted(np.arange(1, count + 1) / max(count, 1), RECALLS)
        mean[:, range_] = envelope[reached, :, range_].mean(axis=0)
    return mean

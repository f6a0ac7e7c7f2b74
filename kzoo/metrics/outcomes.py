"""What became of every detection and every true box at one IoU: the common ground of curves and of the worst images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kzoo.metrics import coco, voc
from kzoo.metrics.mean_average_precision import MeanAveragePrecision


@dataclass(frozen=True)
class ClassOutcomes:
    """Outcomes of one class.

    The metric's protocol says how boxes are matched and which do not count.
    """

    label: int
    score: np.ndarray  # (D,)
    image: np.ndarray  # (D,) int32: image of each detection, in the order of arrival
    true: np.ndarray  # (D,) bool: true positive
    false: np.ndarray  # (D,) bool: false positive; neither is set where a detection does not count
    truth_image: np.ndarray  # (G,) int32: image of each true box that counts
    missed: np.ndarray  # (G,) bool


def outcomes(metric: MeanAveragePrecision, iou: float = 0.5, min_score: float = 0.0) -> Iterator[ClassOutcomes]:
    """Yields the outcomes of every label seen.

    Args:
        metric: after its `update_state` calls.
        iou: threshold, reached (COCO) or exceeded (VOC).
        min_score: detections below it are not looked at.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou must be above 0 and at most 1. Received: {iou}.")
    arrival = np.argsort(metric.records.image_ids, kind="stable")
    for label, truth, found in metric.records.by_class():
        found = found.take(found.score >= min_score)
        ignored = truth.crowd | truth.difficult
        if metric.protocol == "coco":
            # The range "all" leaves out areas above 1e10 only; curves and pictures count every box.
            matches = coco.match(truth, found, [iou], [(-np.inf, np.inf)])
            outcome = np.full(len(found), coco.FALSE, np.uint8)
            outcome[matches.rows] = matches.outcome[:, 0, 0]
            taken = matches.taken[:, 0, 0]
        else:
            outcome, taken = voc.match(truth, found, iou)
        yield ClassOutcomes(
            label=label,
            score=found.score,
            image=arrival[found.image],
            true=outcome == coco.TRUE,
            false=outcome == coco.FALSE,
            truth_image=arrival[truth.image[~ignored]],
            missed=~taken[~ignored],
        )

"""The images in which a detector errs most: the first to look at."""

from dataclasses import dataclass

import numpy as np

from kzoo.metrics.mean_average_precision import MeanAveragePrecision
from kzoo.metrics.outcomes import outcomes


@dataclass(frozen=True)
class ImageErrors:
    """How many errors an image holds; its boxes are in `metric.records.image(index)`."""

    index: int  # in the order of evaluation
    image_id: int
    misses: int
    false_positives: int
    true_positives: int


def worst_images(metric: MeanAveragePrecision, k: int = 16, iou: float = 0.5, score: float = 0.25) -> list[ImageErrors]:
    """Ranks images by misses + false positives, the most first (of equals the one evaluated first).

    A detection of the wrong class is both a false positive and, where no other found the object, a miss.

    Args:
        metric: after its `update_state` calls; its protocol says how boxes are matched.
        k: at most so many; images without an error are left out.
        iou, score: thresholds.
    """
    count = metric.records.num_images
    misses, false, true = (np.zeros(count, np.int64) for _ in range(3))
    for one in outcomes(metric, iou, score):
        np.add.at(misses, one.truth_image[one.missed], 1)
        np.add.at(false, one.image[one.false], 1)
        np.add.at(true, one.image[one.true], 1)
    errors = misses + false
    worst = np.argsort(-errors, kind="stable")[: max(k, 0)]
    ids = metric.records.image_ids
    return [ImageErrors(int(i), int(ids[i]), int(misses[i]), int(false[i]), int(true[i])) for i in worst if errors[i]]

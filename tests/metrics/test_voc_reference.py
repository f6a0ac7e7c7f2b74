"""VOC's average precision against a plain loop over detections, written from the definition alone."""

import numpy as np
import pytest

from kzoo.metrics import MeanAveragePrecision


def overlap(a, b, extra):
    width = min(a[2], b[2]) - max(a[0], b[0]) + extra
    height = min(a[3], b[3]) - max(a[1], b[1]) + extra
    if width <= 0 or height <= 0:
        return 0.0
    area_a, area_b = ((c[2] - c[0] + extra) * (c[3] - c[1] + extra) for c in (a, b))
    return width * height / (area_a + area_b - width * height)


def plain_average_precision(truth, found, year, extra):
    """truth: (image, box, difficult), found: (image, box, score) of one class."""
    positives = sum(not difficult for *_, difficult in truth)
    if positives == 0:
        return None
    detected, true, false = set(), [], []
    for image, box, _ in sorted(found, key=lambda one: -one[2]):
        best, which = -1.0, None
        for i, (other, true_box, _) in enumerate(truth):
            if other == image and overlap(box, true_box, extra) > best:
                best, which = overlap(box, true_box, extra), i
        if best > 0.5 and truth[which][2]:
            continue
        hit = best > 0.5 and which not in detected
        detected |= {which} if hit else set()
        true.append(hit)
        false.append(not hit)
    recall = np.cumsum(true) / positives
    precision = np.cumsum(true) / np.maximum(np.cumsum(true) + np.cumsum(false), 1)
    if year == 2007:
        tops = [
            max((p for p, r in zip(precision, recall, strict=True) if r >= t), default=0) for t in np.arange(11) * 0.1
        ]
        return sum(tops) / 11
    area, before = 0.0, 0.0
    for i in range(len(recall)):
        area += (recall[i] - before) * max(precision[i:])
        before = recall[i]
    return area


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("year", [2007, 2010])
def test_random_data_sets_measure_as_the_plain_loop_says(year, inclusive):
    rng = np.random.default_rng(year)
    measured = []
    for _ in range(60):
        num_images, num_classes = int(rng.integers(1, 8)), int(rng.integers(1, 4))
        truth = {c: [] for c in range(num_classes)}
        found = {c: [] for c in range(num_classes)}
        metric = MeanAveragePrecision(f"voc{year}", inclusive_pixels=inclusive)
        for image in range(num_images):
            n, k = int(rng.integers(0, 9)), int(rng.integers(0, 16))
            corner = rng.integers(0, 40, (n, 2))
            boxes = np.concatenate([corner, corner + rng.integers(0, 30, (n, 2))], axis=1)
            labels, difficult = rng.integers(0, num_classes, n), rng.random(n) < 0.25
            found_boxes = boxes[rng.integers(0, n, k)] if n else np.zeros((k, 4), int)
            found_boxes = found_boxes + rng.integers(-3, 4, (k, 4))
            found_boxes[:, 2:] = np.maximum(found_boxes[:, 2:], found_boxes[:, :2])
            found_labels = rng.integers(0, num_classes, k)
            scores = np.round(rng.random(k), int(rng.choice([1, 6])))
            for c in range(num_classes):
                truth[c] += [(image, boxes[i], difficult[i]) for i in np.flatnonzero(labels == c)]
                found[c] += [(image, found_boxes[i], scores[i]) for i in np.flatnonzero(found_labels == c)]
            metric.update_state(
                {"boxes": boxes[None], "labels": labels[None], "difficult": difficult[None]},
                {"boxes": found_boxes[None], "labels": found_labels[None], "scores": scores[None]},
            )
        ours = {c: scores["AP"] for c, scores in metric.result()["per_class"].items()}
        for c in range(num_classes):
            expected = plain_average_precision(truth[c], found[c], year, int(inclusive))
            if expected is None:
                assert ours.get(c, -1.0) == -1.0
            else:
                assert ours[c] == pytest.approx(expected, abs=1e-12)
                measured.append(expected)
    assert 0.1 < np.mean(measured) < 0.9
    assert len(measured) > 80

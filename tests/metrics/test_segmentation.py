"""Measures of label maps against plain loops over pixels."""

import numpy as np
import pytest

from kzoo.metrics import BoundaryF1, MeanIoU, SegmentationMeasures, evaluate


def loop_scores(true, predicted, num_classes, void=255):
    """IoU, accuracy and Dice of each class by counting pixels one by one; None where undefined."""
    scores = []
    for c in range(num_classes):
        both = t = p = 0
        for a, b in zip(true.ravel(), predicted.ravel(), strict=True):
            if a != void:
                both, t, p = both + (a == c and b == c), t + (a == c), p + (b == c)
        union = t + p - both
        scores.append((both / union if union else -1, both / t if t else -1, 2 * both / (t + p) if t + p else -1))
    return scores


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_scores_equal_counting_pixels(classes):
    rng = np.random.default_rng(classes)
    true, predicted = (rng.integers(0, classes, (3, 7, 9)) for _ in range(2))
    true[rng.random(true.shape) < 0.2] = 255
    names = [f"class {k}" for k in range(classes + 1)]  # the last one never occurs
    metric = MeanIoU(classes + 1, class_names=names)
    for i in range(3):
        metric.update_state(true[i : i + 1].astype("uint8"), {"labels": predicted[i : i + 1]})
    result = metric.result()
    expected = loop_scores(true, predicted, classes + 1)
    for name, (iou, accuracy, dice) in zip(names, expected, strict=True):
        row = result["per_class"][name]
        np.testing.assert_allclose([row["IoU"], row["accuracy"], row["Dice"]], [iou, accuracy, dice])
    known = np.array(expected[:classes])
    np.testing.assert_allclose([result["mIoU"], result["mean_accuracy"], result["mean_dice"]], known.mean(axis=0))
    valid = true != 255
    np.testing.assert_allclose(result["pixel_accuracy"], (true == predicted)[valid].mean())


def test_by_hand():
    metric = MeanIoU(2)
    metric.update_state({"masks": np.array([[[0, 0, 1, 255]]])}, np.array([[[0, 1, 1, 0]]]))
    result = metric.result()
    assert result["per_class"]["0"] == {"IoU": 0.5, "accuracy": 0.5, "Dice": pytest.approx(2 / 3), "pixels": 2}
    assert result["per_class"]["1"]["IoU"] == 0.5
    assert result["pixel_accuracy"] == pytest.approx(2 / 3)
    metric.reset_state()
    assert metric.result()["mIoU"] == -1


def test_a_class_predicted_but_nowhere_true_scores_nothing():
    metric = MeanIoU(3)
    metric.update_state(np.zeros((1, 2, 2), int), np.full((1, 2, 2), 2))
    assert [row["IoU"] for row in metric.result()["per_class"].values()] == [0, -1, 0]


def test_no_images_and_void_only_give_nothing_to_measure():
    metric = MeanIoU(2)
    metric.update_state(np.zeros((0, 4, 4), int), np.zeros((0, 4, 4), int))
    metric.update_state(np.full((1, 4, 4), 255), np.zeros((1, 4, 4), int))
    result = metric.result()
    assert (result["mIoU"], result["pixel_accuracy"], result["mean_accuracy"]) == (-1, -1, -1)


@pytest.mark.parametrize("measure", [MeanIoU, BoundaryF1])
def test_faults_are_named(measure):
    metric = measure(2)
    with pytest.raises(ValueError, match="masks hold the label 7"):
        metric.update_state(np.full((1, 1, 1), 7), np.zeros((1, 1, 1), int))
    with pytest.raises(ValueError, match="predictions hold the label -1"):
        metric.update_state(np.zeros((1, 1, 1), int), np.full((1, 1, 1), -1))
    with pytest.raises(ValueError, match="one shape"):
        metric.update_state(np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int))
    with pytest.raises(ValueError, match="class_names has 1"):
        measure(2, class_names=["a"])


def boundary_loop(true, predicted, label, radius, void=255):
    def outline(labels):
        points = []
        for y, x in np.ndindex(labels.shape):
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                p = (y + dy, x + dx)
                inside = 0 <= p[0] < labels.shape[0] and 0 <= p[1] < labels.shape[1]
                if inside and labels[y, x] == label and labels[p] not in (label, void):
                    points.append((y, x))
                    break
        return points

    def share_near(points, others):
        return np.mean([any(np.hypot(y - v, x - u) <= radius for v, u in others) for y, x in points])

    predicted = np.where(true == void, void, predicted)
    a, b = outline(true), outline(predicted)
    if not a and not b:
        return None
    if not a or not b:
        return 0.0
    precision, recall = share_near(b, a), share_near(a, b)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_boundary_f1_equals_a_search_over_all_boundary_pixels():
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, (2, 4, 5)).repeat(4, 1).repeat(4, 2)
    predicted = np.roll(true, (1, 2), (1, 2))
    predicted[1, 3:9, 3:9] = 2
    true[0, :3, :5] = 255
    tolerance = 0.05
    metric = BoundaryF1(3, tolerance=tolerance)
    metric.update_state(true, predicted)
    radius = tolerance * np.hypot(16, 20)
    for label in range(3):
        scores = [boundary_loop(t, p, label, radius) for t, p in zip(true, predicted, strict=True)]
        expected = np.mean([score for score in scores if score is not None])
        assert metric.result()["per_class"][str(label)] == pytest.approx(expected)
    assert 0 < metric.result()["mean_boundary_f1"] < 1


def test_a_boundary_moved_within_the_tolerance_is_met():
    true = np.zeros((1, 100, 100), int)
    true[:, 20:60, 20:60] = 1
    moved = np.roll(true, 1, axis=2)
    metric = BoundaryF1(2)  # 0.75 % of the diagonal of 141: 1.06 pixels
    metric.update_state(true, moved)
    assert metric.result()["mean_boundary_f1"] == 1.0
    metric.reset_state()
    metric.update_state(true, np.zeros_like(true))
    assert metric.result()["per_class"] == {"0": 0.0, "1": 0.0}
    metric.reset_state()
    assert metric.result()["mean_boundary_f1"] == -1


def test_all_measures_at_once_are_those_of_their_parts():
    rng = np.random.default_rng(8)
    true, predicted = rng.integers(0, 3, (2, 2, 6, 7))
    parts = MeanIoU(3, class_names=["a", "b", "c"]), BoundaryF1(3, class_names=["a", "b", "c"])
    metric = SegmentationMeasures(3, class_names=["a", "b", "c"])
    for one in (*parts, metric):
        one.update_state(true, predicted)
    overlap, boundary = (part.result() for part in parts)
    result = metric.result()
    assert set(result) == {*overlap, "mean_boundary_f1"}
    assert result["mIoU"] == overlap["mIoU"]
    assert result["mean_boundary_f1"] == boundary["mean_boundary_f1"]
    assert result["per_class"]["b"] == {**overlap["per_class"]["b"], "boundary F1": boundary["per_class"]["b"]}
    metric.reset_state()
    assert metric.result()["mIoU"] == metric.result()["mean_boundary_f1"] == -1


def test_cells_are_regions_of_a_class_or_numbered_objects():
    true = np.array([[[1, 1, 0, 2, 2, 255]]])
    metric = SegmentationMeasures(3, cells=True)
    assert metric.result()["objects"] == 0
    metric.update_state(true, np.array([[[1, 1, 0, 2, 0, 2]]]))  # half of the second is found, and nothing in void
    result = metric.result()
    assert (result["objects"], result["SEG"], result["warping_error"]) == (2, 0.5, 0.0)
    assert result["rand_fscore"] == pytest.approx(2 * 6 / (8 + 6))  # pairs: true 4 + 4, predicted and both 4 + 1 + 1

    # Two cells that touch are one in the mask; with their numbers, one object over both is a merger.
    targets = {"masks": np.array([[[1, 1, 1, 1]]]), "instances": np.array([[[5, 5, 9, 9]]])}
    for given, merge in ((targets, 0.5), (targets["masks"], 1.0)):
        metric.reset_state()
        metric.update_state(given, {"labels": np.array([[[1, 1, 1, 1]]])})
        assert metric.result()["rand_merge"] == merge
    metric.update_state(np.zeros((0, 4, 4), int), np.zeros((0, 4, 4), int))
    assert metric.result()["rand_merge"] == 1.0


class Threshold:
    """Says class 1 where red is above 128."""

    num_classes, class_names = 2, None

    def segment(self, images):
        labels = (np.asarray(images)[..., 0] > 128).astype(np.int32)
        return {"labels": labels, "scores": np.ones(labels.shape)}


def test_a_segmenter_is_evaluated_on_batches_and_on_arrays():
    masks = np.zeros((9, 12, 12), int)
    masks[:, 3:8, 3:8] = 1
    images = np.repeat(255.0 * masks[..., None], 3, axis=-1)
    images[0, 0, 0] = 255
    batches = [(images[:8], {"masks": masks[:8]}), (images[8:], {"masks": masks[8:]})]
    result = evaluate(Threshold(), batches)
    assert result["pixel_accuracy"] == pytest.approx(1 - 1 / masks.size)
    assert 0.9 < result["mean_boundary_f1"] < 1
    assert "SEG" not in result
    for data in ((images, {"masks": masks}), (images, masks), [(images, masks)]):
        assert evaluate(Threshold(), data) == result
    cells = evaluate(Threshold(), (images, masks), cells=True)
    assert (cells["objects"], cells["SEG"], cells["rand_fscore"]) == (9, 1.0, 1.0)
    assert cells["warping_error"] == pytest.approx(1 / masks.size)  # the extra object cannot be made
    with pytest.raises(ValueError, match="cells=True goes with a segmenter"):
        evaluate(Threshold(), batches, metric=MeanIoU(2), cells=True)

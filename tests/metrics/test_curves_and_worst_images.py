"""Curves, the best F1 threshold and the worst images."""

import numpy as np
import pytest

from kzoo.metrics import MeanAveragePrecision, best_f1_threshold, precision_recall_curves, worst_images

BOXES = np.array([[i * 100, 0, i * 100 + 50, 50] for i in range(4)], float)
NOTHING = [500.0, 500.0, 550.0, 550.0]


def metric_of(*images, protocol="coco", names=("a", "b"), ids=None, **marks):
    """One (true boxes, labels, found boxes, labels, scores) an image, each a batch of its own."""
    metric = MeanAveragePrecision(protocol, class_names=names)
    for i, (boxes, labels, found, found_labels, scores) in enumerate(images):
        targets = {"boxes": np.reshape(boxes, (1, -1, 4)), "labels": np.reshape(labels, (1, -1))}
        targets |= {name: np.reshape(mark[i], (1, -1)) for name, mark in marks.items()}
        if ids is not None:
            targets["image_id"] = ids[i : i + 1]
        found = {"boxes": np.reshape(found, (1, -1, 4)), "labels": np.reshape(found_labels, (1, -1))}
        metric.update_state(targets, found | {"scores": np.reshape(scores, (1, -1))})
    return metric


@pytest.fixture
def worked():
    """The slides' TP TP FP FP TP of three objects, of class a."""
    found = [BOXES[0], BOXES[1], NOTHING, NOTHING, BOXES[2]]
    return metric_of((BOXES[:3], [0, 0, 0], found, [0] * 5, [0.9, 0.8, 0.7, 0.6, 0.5]))


def test_a_curve_has_one_point_a_score(worked):
    curve = precision_recall_curves(worked)["a"]
    np.testing.assert_allclose(curve.scores, [0.9, 0.8, 0.7, 0.6, 0.5])
    np.testing.assert_allclose(curve.recall, [1 / 3, 2 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(curve.precision, [1, 1, 2 / 3, 1 / 2, 3 / 5])
    np.testing.assert_allclose(curve.f1, [1 / 2, 4 / 5, 2 / 3, 4 / 7, 3 / 4])
    assert curve.num_objects == 3
    assert curve.best_f1() == pytest.approx({"score": 0.8, "f1": 0.8, "precision": 1.0, "recall": 2 / 3})


def test_equal_scores_are_one_point():
    metric = metric_of((BOXES[:2], [0, 0], [BOXES[0], NOTHING, BOXES[1]], [0, 0, 0], [0.5, 0.5, 0.5]))
    curve = precision_recall_curves(metric)["a"]
    np.testing.assert_allclose(curve.scores, [0.5])
    np.testing.assert_allclose(curve.precision, [2 / 3])
    np.testing.assert_allclose(curve.recall, [1])


def test_a_curve_is_read_at_any_recall_and_any_threshold(worked):
    curve = precision_recall_curves(worked)["a"]
    np.testing.assert_allclose(curve.precision_at([0, 0.5, 0.67, 1.0]), [1, 1, 0.6, 0.6])
    np.testing.assert_allclose(curve.f1_at([0, 0.5, 0.51, 0.8, 0.81, 0.95]), [3 / 4, 3 / 4, 4 / 7, 4 / 5, 1 / 2, 0])


def test_precision_over_the_101_recalls_averages_to_the_metric():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(20):
        found = np.concatenate([BOXES, BOXES]) + rng.integers(-12, 13, (8, 4))
        images.append((BOXES, rng.integers(0, 2, 4), found, rng.integers(0, 2, 8), rng.permutation(1000)[:8] / 1000))
    metric = metric_of(*images)
    result, curves = metric.result(), precision_recall_curves(metric)
    for name, curve in curves.items():
        average = curve.precision_at(np.linspace(0, 1, 101)).mean()
        assert 0.05 < average < 0.95
        # One score may stand for two points of the metric's: equal scores are rare here.
        assert average == pytest.approx(result["per_class"][name]["AP@0.50"], abs=0.01)


def test_difficult_boxes_are_no_objects_and_detections_on_them_no_errors():
    difficult = [[False, True]]
    for protocol in ("coco", "voc2007"):
        metric = metric_of(
            (BOXES[:2], [0, 0], BOXES[:2], [0, 0], [0.5, 0.9]), protocol=protocol, difficult=np.array(difficult)
        )
        curve = precision_recall_curves(metric)["a"]
        assert curve.num_objects == 1
        np.testing.assert_allclose(curve.precision, [0, 1])
        assert worst_images(metric) == []


def test_a_class_without_objects_or_detections_has_an_empty_curve(worked):
    curve = precision_recall_curves(worked)["b"]
    assert (curve.scores.size, curve.num_objects) == (0, 0)
    assert np.isnan(curve.precision_at(np.linspace(0, 1, 5))).all()
    assert np.isnan(curve.f1_at(np.linspace(0, 1, 5))).all()
    assert curve.best_f1() == {"score": 0.0, "f1": 0.0, "precision": 0.0, "recall": 0.0}


def test_objects_without_detections_have_f1_0():
    curve = precision_recall_curves(metric_of((BOXES, [0] * 4, [], [], [])))["a"]
    np.testing.assert_array_equal(curve.f1_at([0.0, 0.5]), [0, 0])
    np.testing.assert_array_equal(curve.precision_at([0.0, 0.5]), [0, 0])


def test_the_best_threshold_is_the_middle_of_the_best_stretch(worked):
    # F1 is best, 4/5, for thresholds above 0.7 up to 0.8; class b has no objects and no say.
    threshold, f1 = best_f1_threshold(precision_recall_curves(worked))
    assert f1 == pytest.approx(0.8)
    assert threshold == pytest.approx(0.75, abs=0.002)
    assert best_f1_threshold(precision_recall_curves(MeanAveragePrecision(class_names=["a"]))) == (0.0, -1.0)


def test_the_worst_images_come_first_with_their_misses_and_false_positives():
    metric = metric_of(
        (BOXES[:1], [0], BOXES[:1], [0], [0.9]),  # right
        (BOXES, [0, 0, 1, 1], [BOXES[0], NOTHING], [0, 0], [0.9, 0.8]),  # 3 missed, 1 false
        (BOXES[:1], [0], BOXES[:1], [1], [0.9]),  # taken for another class: missed and false
        ([], [], [NOTHING, NOTHING, NOTHING], [1, 1, 1], [0.9, 0.2, 0.1]),  # 1 false above the score threshold
        (BOXES[:1], [1], [], [], []),  # 1 missed
        ids=np.arange(5)[::-1] + 70,
    )
    worst = worst_images(metric, k=3)
    assert [(e.index, e.image_id, e.misses, e.false_positives, e.true_positives) for e in worst] == [
        (1, 73, 3, 1, 1),
        (2, 72, 1, 1, 0),
        (3, 71, 0, 1, 0),
    ]
    assert [e.index for e in worst_images(metric, k=99)] == [1, 2, 3, 4]
    shown = metric.records.image(1)
    assert shown["image_id"] == 73
    np.testing.assert_array_equal(shown["targets"]["boxes"], BOXES)
    np.testing.assert_array_equal(shown["found"]["labels"], [0, 0])


@pytest.mark.parametrize("iou", [0.0, 1.5, -1])
def test_an_impossible_iou_is_refused(worked, iou):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        precision_recall_curves(worked, iou)

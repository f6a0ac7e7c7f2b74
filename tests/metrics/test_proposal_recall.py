"""Recall of proposals against hand-counted values."""

import numpy as np
import pytest

from kzoo.metrics import ProposalRecall, evaluate
from kzoo.metrics.evaluation import takes_proposals


def test_recall_counts_objects_whose_best_proposal_among_the_first_n_fits():
    targets = {"boxes": np.array([[[0, 0, 10, 10.0], [20, 0, 30, 10]]]), "labels": np.array([[0, 1]])}
    proposals = np.array([[[0, 0, 10, 6.0], [0, 0, 0, 0], [20, 0, 30, 10], [0, 0, 10, 9]]])  # IoU .6, padding, 1, .9
    metric = ProposalRecall((1, 2, 3), (0.5, 0.8), ["a", "b"])
    metric.update_state(targets, proposals)
    result = metric.result()
    np.testing.assert_array_equal(result["recall"], [[0.5, 0], [1, 0.5], [1, 1]])
    np.testing.assert_array_equal(result["average_recall"], [0.25, 0.75, 1])
    np.testing.assert_allclose(result["mean_best_iou"], [0.3, 0.8, 0.95])
    np.testing.assert_array_equal(result["per_class"]["b"], [0, 1, 1])
    assert (result["objects"], result["images"], result["proposals_per_image"]) == (2, 1, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_iou_of_just_the_threshold_counts(dtype):
    thresholds = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    metric = ProposalRecall((1,), thresholds)
    boxes = np.tile(np.array([[0, 0, 20, 1]], dtype), (len(thresholds), 1, 1))
    regions = np.array([[[0, 0, 20 * t, 1]] for t in thresholds], dtype)
    metric.update_state({"boxes": boxes, "labels": np.zeros((len(thresholds), 1), int)}, regions)
    np.testing.assert_allclose(metric.result()["recall"][0], np.arange(10, 0, -1) / 10)


def test_difficult_objects_crowds_and_padding_do_not_count():
    targets = {
        "boxes": np.tile([0, 0, 10, 10.0], (1, 4, 1)),
        "labels": np.array([[0, 0, 0, -1]]),
        "difficult": np.array([[False, True, False, False]]),
        "crowd": np.array([[False, False, True, False]]),
        "proposals": np.zeros((1, 0, 4)),
    }
    metric = ProposalRecall((1,))
    metric.update_state(targets)
    assert metric.result()["objects"] == 1
    assert metric.result()["recall"].max() == 0


def test_nothing_at_all_is_nan_and_wrong_shapes_are_named():
    assert np.isnan(ProposalRecall().result()["recall"]).all()
    with pytest.raises(ValueError, match="as the targets"):
        ProposalRecall().update_state({"boxes": np.zeros((2, 1, 4)), "labels": np.zeros((2, 1))}, np.zeros((1, 5, 4)))


def test_evaluate_hands_proposals_to_the_detectors_that_take_them():
    class Plain:
        def detect(self, images):
            zeros = np.zeros((len(images), 1))
            return {"boxes": np.zeros((len(images), 1, 4)), "labels": zeros.astype(int) - 1, "scores": zeros}

    class Takes(Plain):
        def detect(self, images, proposals=None):
            boxes = np.asarray(proposals)
            return {"boxes": boxes, "labels": np.zeros(boxes.shape[:2], int), "scores": np.ones(boxes.shape[:2])}

    targets = {"boxes": np.array([[[0, 0, 10, 10.0]]]), "labels": np.array([[0]])}
    data = [(np.zeros((1, 20, 20, 3)), {**targets, "proposals": targets["boxes"]})]
    assert takes_proposals(Takes())
    assert not takes_proposals(Plain())
    assert evaluate(Takes(), data)["mAP"] == 1
    assert evaluate(Plain(), data)["mAP"] == 0

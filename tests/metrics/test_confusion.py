"""The confusion matrix against hand-made cases and a plain greedy loop."""

import numpy as np
import pytest

from kzoo import boxes as box_functions
from kzoo.metrics import ConfusionMatrix

BOXES = np.array([[i * 100, 0, i * 100 + 50, 50] for i in range(4)], float)


def matrix_of(true, labels, found, found_labels, scores=None, num_classes=2, **marks):
    matrix = ConfusionMatrix(num_classes)
    scores = np.full(len(found_labels), 0.9) if scores is None else np.asarray(scores)
    matrix.update_state(
        {"boxes": np.reshape(true, (1, -1, 4)), "labels": np.reshape(labels, (1, -1))}
        | {name: np.reshape(mark, (1, -1)) for name, mark in marks.items()},
        {"boxes": np.reshape(found, (1, -1, 4)), "labels": np.reshape(found_labels, (1, -1)), "scores": scores[None]},
    )
    return matrix.result().tolist()


def test_rows_are_true_classes_and_columns_what_was_found():
    # 0 found as 0, 0 found as 1, 1 not found, and a 1 on background.
    found = [BOXES[0], BOXES[1], BOXES[3]]
    assert matrix_of(BOXES[:3], [0, 0, 1], found, [0, 1, 1]) == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_images_without_objects_or_detections_are_normal():
    assert matrix_of([], [], [], []) == [[0, 0, 0]] * 3
    assert matrix_of(BOXES[:1], [1], [], []) == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert matrix_of([], [], BOXES[:1], [1]) == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_detections_below_the_score_are_not_looked_at():
    assert matrix_of(BOXES[:1], [0], BOXES[:1], [0], [0.2]) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert matrix_of(BOXES[:1], [0], BOXES[:1], [0], [0.25]) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_pair_with_the_highest_iou_matches_and_a_second_detection_is_on_background():
    worse, better = [0, 0, 50, 40], [0, 0, 50, 45]
    assert matrix_of(BOXES[:1], [0], [worse, better], [0, 1], [0.9, 0.5]) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    # Of equal IoUs the better score.
    assert matrix_of(BOXES[:1], [0], [better, better], [0, 1], [0.5, 0.9]) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("mark", ["crowd", "difficult"])
def test_crowds_and_difficult_boxes_do_not_count(mark):
    marks = {mark: [False, True]}
    assert matrix_of(BOXES[:2], [0, 0], BOXES[:1], [0], **marks) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert matrix_of(BOXES[:2], [0, 0], BOXES[[0, 1, 1]], [0, 1, 1], **marks) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_boxes_of_different_images_never_match():
    matrix = ConfusionMatrix(1)
    boxes, labels = np.stack([BOXES[:1], np.zeros((1, 4))]), np.array([[0], [-1]])
    found = {"boxes": boxes[::-1], "labels": labels[::-1], "scores": np.ones((2, 1))}
    matrix.update_state({"boxes": boxes, "labels": labels}, found)
    assert matrix.result().tolist() == [[0, 1], [1, 0]]
    matrix.reset_state()
    assert matrix.result().sum() == 0


def test_random_images_are_matched_as_the_plain_greedy_loop_matches_them():
    rng = np.random.default_rng(0)
    pairs = 0
    for _ in range(60):
        corner = rng.uniform(0, 30, (8, 2))
        true = np.concatenate([corner, corner + 20], axis=1)
        found = np.concatenate([true, true, true]) + rng.uniform(-5, 5, (24, 4))
        labels, found_labels, scores = rng.integers(0, 3, 8), rng.integers(0, 3, 24), rng.uniform(0.3, 1, 24)
        expected = np.zeros((4, 4), int)
        iou = box_functions.iou(found, true)
        left, missed = set(range(24)), set(range(8))
        for d, g in sorted(np.ndindex(24, 8), key=lambda pair: -iou[pair]):
            if iou[d, g] >= 0.5 and d in left and g in missed:
                expected[labels[g], found_labels[d]] += 1
                left.remove(d)
                missed.remove(g)
        for d in left:
            expected[3, found_labels[d]] += 1
        for g in missed:
            expected[labels[g], 3] += 1
        pairs += expected[:3, :3].sum()
        assert matrix_of(true, labels, found, found_labels, scores, num_classes=3) == expected.tolist()
    assert pairs > 200


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="Label 2 is beyond num_classes=2"):
        matrix_of(BOXES[:1], [2], [], [])

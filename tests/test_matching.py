"""The matcher against the papers' rules, as plain loops."""

import keras
import numpy as np
import pytest

from kzoo import boxes as box_ops
from kzoo import matching

ANCHORS = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [20, 0, 30, 10], [24, 0, 34, 10], [60, 60, 70, 70]], "float32")


def match(boxes, labels, anchors=ANCHORS, **kwargs):
    matched = matching.match(anchors, np.array(boxes, "float32"), np.array(labels), **kwargs)
    return keras.ops.convert_to_numpy(matched)


def ssd_rule(anchors, boxes, labels):
    """SSD, section 2.2, as a loop: pair off by highest IoU, then every default box with IoU > 0.5."""
    overlap = box_ops.iou(boxes, anchors)
    overlap[labels < 0] = -1
    matched = np.full(len(anchors), -1)
    best = overlap.max(0)
    matched[best > 0.5] = overlap.argmax(0)[best > 0.5]
    left = overlap.copy()
    while left.size and left.max() > 0:
        box, anchor = np.unravel_index(left.argmax(), left.shape)
        matched[anchor] = box
        left[box], left[:, anchor] = -1, -1
    return matched


def test_thresholds_separate_positive_ignored_and_negative():
    # IoU of the box with the anchors: 1, .83, 0, 0, 0.
    boxes, labels = [[[0, 0, 10, 10]]], [[3]]
    np.testing.assert_array_equal(match(boxes, labels, positive=0.9, negative=0.5, claim="none"), [[0, -2, -1, -1, -1]])
    np.testing.assert_array_equal(match(boxes, labels, positive=0.5, claim="none"), [[0, 0, -1, -1, -1]])


def test_a_box_below_the_threshold_claims_its_best_anchor():
    boxes, labels = [[[62, 62, 66, 66]]], [[0]]  # IoU .16 with the last anchor
    np.testing.assert_array_equal(match(boxes, labels, claim="none"), [[-1] * 5])
    np.testing.assert_array_equal(match(boxes, labels, claim="one_to_one"), [[-1, -1, -1, -1, 0]])
    np.testing.assert_array_equal(match(boxes, labels, claim="best"), [[-1, -1, -1, -1, 0]])


def test_two_boxes_never_claim_one_anchor():
    # Both boxes like the last anchor best; the second fits better and the first has no other anchor to go to.
    boxes, labels = [[[62, 62, 66, 66], [60, 60, 70, 69]]], [[0, 1]]
    np.testing.assert_array_equal(match(boxes, labels), [[-1, -1, -1, -1, 1]])


def test_ties_are_shared_by_claim_best():
    # The RPN rule: every anchor with the highest IoU, ties included.
    boxes, labels = [[[22, 0, 32, 10]]], [[0]]  # IoU 2/3 with both anchors 2 and 3
    np.testing.assert_array_equal(match(boxes, labels, positive=0.7, negative=0.3, claim="best"), [[-1, -1, 0, 0, -1]])
    np.testing.assert_array_equal(match(boxes, labels, positive=0.7, claim="one_to_one"), [[-1, -1, 0, -1, -1]])


def test_claim_best_takes_no_anchor_from_a_box_that_it_fits_better():
    anchors = np.array([[0, 0, 100, 100], [0, 0, 100, 88]], "float32")
    boxes = [[[0, 0, 100, 90], [0, 70, 100, 130]]]  # IoU .90 and .98; .23 and .14
    for positive, expected in ((0.7, [0, 0]), (0.95, [1, 0])):
        matched = match(boxes, [[0, 1]], anchors, positive=positive, negative=0.3, claim="best")
        np.testing.assert_array_equal(matched, [expected])


def test_padding_is_never_matched():
    boxes, labels = [[[0, 0, 10, 10], [0, 0, 0, 0]]], [[-1, -1]]
    for claim in ("one_to_one", "best", "none"):
        np.testing.assert_array_equal(match(boxes, labels, claim=claim), [[-1] * 5])


def test_a_box_without_area_is_never_matched():
    np.testing.assert_array_equal(match([[[5, 5, 5, 9]]], [[0]]), [[-1] * 5])


def test_no_boxes_at_all():
    for claim in ("one_to_one", "best", "none"):
        matched = match(np.zeros((2, 0, 4)), np.zeros((2, 0)), claim=claim)
        np.testing.assert_array_equal(matched, np.full((2, 5), -1))
        assert matched.dtype == np.int32


@pytest.mark.parametrize("seed", range(6))
def test_equals_ssds_rule_on_random_images(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 90, (120, 2))
    anchors = np.concatenate([corner, corner + rng.uniform(8, 30, (120, 2))], 1).astype("float32")
    corner = rng.uniform(0, 90, (4, 12, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 35, (4, 12, 2))], 2).astype("float32")
    labels = np.where(rng.uniform(size=(4, 12)) < 0.7, rng.integers(0, 3, (4, 12)), -1)
    expected = [ssd_rule(anchors, b, c) for b, c in zip(boxes, labels, strict=True)]
    np.testing.assert_array_equal(match(boxes, labels, anchors), expected)


def test_matched_values_and_background():
    matched = np.array([[1, -1, 0], [-2, -1, -1]], "int32")
    values = keras.ops.convert_to_tensor([[10, 20], [30, 40]])
    np.testing.assert_array_equal(matching.gather_matched(values, matched, 0), [[20, 0, 10], [0, 0, 0]])
    boxes = np.arange(16, dtype="float32").reshape(2, 2, 4)
    gathered = keras.ops.convert_to_numpy(matching.gather_matched(boxes, matched, -1.0))
    np.testing.assert_array_equal(gathered[0], [boxes[0, 1], [-1] * 4, boxes[0, 0]])
    empty = matching.gather_matched(np.zeros((2, 0, 4), "float32"), np.full((2, 3), -1, "int32"), 0.0)
    assert empty.shape == (2, 3, 4)


def test_an_unknown_claim_is_refused():
    with pytest.raises(ValueError, match="one_to_one"):
        match([[[0, 0, 1, 1]]], [[0]], claim="all")


def test_each_image_may_have_anchors_of_its_own():
    boxes, labels = [[[0, 0, 10, 10]]] * 2, [[3]] * 2
    anchors = np.stack([ANCHORS, ANCHORS[::-1]])
    matched = match(boxes, labels, anchors, positive=0.5, claim="none")
    np.testing.assert_array_equal(matched, [[0, 0, -1, -1, -1], [-1, -1, -1, 0, 0]])


def test_background_below_the_lowest_overlap_is_ignored():
    # IoU .25, .2, 0, 0, 0: background is what overlaps an object a little (Fast R-CNN, section 2.3).
    boxes, labels = [[[0, 0, 10, 2.5]]], [[0]]
    matched = match(boxes, labels, positive=0.5, claim="none", lowest=0.1)
    np.testing.assert_array_equal(matched, [[-1, -1, -2, -2, -2]])
    np.testing.assert_array_equal(match(np.zeros((1, 0, 4)), np.zeros((1, 0)), lowest=0.1), [[-2] * 5])


def draw(matched, count, fraction, seed=0):
    index, drawn = matching.sample(np.array(matched, "int32"), count, fraction, keras.random.SeedGenerator(seed))
    return keras.ops.convert_to_numpy(index), keras.ops.convert_to_numpy(drawn)


def test_a_sample_has_the_wanted_share_of_matched_anchors():
    matched = np.array([[0] * 40 + [-1] * 50 + [-2] * 10, [1] * 3 + [-1] * 50 + [-2] * 47], "int32")
    index, drawn = draw(matched, 32, 0.25)
    np.testing.assert_array_equal((drawn >= 0).sum(1), [8, 3])
    np.testing.assert_array_equal((drawn == matching.NEGATIVE).sum(1), [24, 29])  # background fills up
    np.testing.assert_array_equal(np.take_along_axis(matched, index, 1), drawn)
    assert all(len(set(row)) == 32 for row in index)  # nothing twice


def test_places_without_an_anchor_are_ignored():
    index, drawn = draw([[0, 1, 0, 1, -1, -2], [-2] * 6], 8, 0.25)
    assert (drawn[0] >= 0).sum() == 2
    np.testing.assert_array_equal(drawn[0, 2:], [-1] + [-2] * 5)
    np.testing.assert_array_equal(drawn[1], [-2] * 8)
    assert index.min() >= 0
    assert index.max() < 6
    assert draw(np.zeros((2, 0)), 4, 0.5)[1].tolist() == [[-2] * 4] * 2


def test_every_anchor_is_drawn_equally_often():
    seed = keras.random.SeedGenerator(1)
    matched = np.array([[0] * 10 + [-1] * 20] * 50, "int32")
    times = np.zeros(30)
    for _ in range(20):
        index, _ = matching.sample(matched, 10, 0.5, seed)
        times += np.bincount(keras.ops.convert_to_numpy(index).ravel(), minlength=30)
    # 1000 images draw 5 of 10 and 5 of 20: 500 and 250 times each, give or take five standard deviations.
    assert np.abs(times[:10] - 500).max() < 80
    assert np.abs(times[10:] - 250).max() < 70


def test_batches_may_change_their_number_of_boxes_in_a_compiled_graph():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow compiles for shapes that it does not know")
    import tensorflow as tf

    anchors = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], "float32")

    @tf.function(input_signature=[tf.TensorSpec((1, None, 4)), tf.TensorSpec((1, None), tf.int32)])
    def run(boxes, labels):
        matched = matching.match(anchors, boxes, labels)
        return matched, matching.gather_matched(labels, matched, -5)

    matched, labels = run(anchors[None, 1:], np.array([[7]], "int32"))
    assert (matched.numpy().tolist(), labels.numpy().tolist()) == ([[-1, 0]], [[-5, 7]])
    matched, labels = run(np.zeros((1, 0, 4), "float32"), np.zeros((1, 0), "int32"))
    assert (matched.numpy().tolist(), labels.numpy().tolist()) == ([[-1, -1]], [[-5, -5]])

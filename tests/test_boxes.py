"""Boxes against hand-computed values and plain loops."""

import keras
import numpy as np
import pytest

from kzoo import boxes


def random_boxes(rng, *shape):
    corner = rng.uniform(0, 80, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(0.5, 60, (*shape, 2))], axis=-1)


def plain_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("xyxy", [10, 20, 40, 80]),
        ("yxyx", [20, 10, 80, 40]),
        ("xywh", [10, 20, 30, 60]),
        ("center_xywh", [25, 50, 30, 60]),
        ("rel_xyxy", [0.05, 0.2, 0.2, 0.8]),
        ("rel_yxyx", [0.2, 0.05, 0.8, 0.2]),
        ("rel_xywh", [0.05, 0.2, 0.15, 0.6]),
        ("rel_center_xywh", [0.125, 0.5, 0.15, 0.6]),
    ],
)
def test_each_format_of_one_box_and_back(format, expected):
    box = np.array([[10.0, 20.0, 40.0, 80.0]])
    converted = boxes.convert(box, "xyxy", format, image_shape=(100, 200))
    np.testing.assert_allclose(converted, [expected], rtol=1e-6)
    np.testing.assert_allclose(boxes.convert(converted, format, "xyxy", image_shape=(100, 200)), box, rtol=1e-6)


def test_conversion_agrees_with_keras_on_random_boxes():
    box = random_boxes(np.random.default_rng(0), 50).astype("float32")
    ours = boxes.convert(box, "xyxy", "rel_yxyx", image_shape=(150, 170))
    theirs = keras.utils.bounding_boxes.convert_format(box, "xyxy", "rel_yxyx", height=150, width=170)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_an_unknown_format_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'xywh'"):
        boxes.convert(np.zeros((1, 4)), "xyhw", "xyxy")


def test_a_relative_format_needs_the_image_shape():
    with pytest.raises(ValueError, match="image_shape"):
        boxes.convert(np.zeros((1, 4)), "rel_xyxy", "xyxy")


def test_iou_equals_a_plain_loop():
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 20), random_boxes(rng, 30)
    expected = [[plain_iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(boxes.iou(a, b), expected, rtol=1e-12)
    on_backend = boxes.iou(keras.ops.convert_to_tensor(a, "float32"), keras.ops.convert_to_tensor(b, "float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(on_backend), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
        ([5, 5, 5, 5], [5, 5, 5, 5], 0.0),
        ([0, 0, 10, 10], [5, 5, 5, 9], 0.0),
        ([9, 9, 1, 1], [0, 0, 10, 10], 0.0),
    ],
)
def test_iou_of_special_pairs_is_never_nan(a, b, expected):
    assert boxes.iou(np.array([a]), np.array([b]))[0, 0] == pytest.approx(expected)


def test_empty_sides_give_empty_ious():
    assert boxes.iou(np.empty((0, 4)), np.ones((3, 4))).shape == (0, 3)
    assert boxes.iou(np.ones((2, 5, 4)), np.empty((2, 0, 4))).shape == (2, 5, 0)


def test_giou_by_hand():
    # Two unit squares with a gap of one: IoU 0, hull 3, so -(3 - 2) / 3.
    a, b = np.array([[0.0, 0, 1, 1]]), np.array([[2.0, 0, 3, 1]])
    np.testing.assert_allclose(boxes.giou(a, b), [-1 / 3])
    np.testing.assert_allclose(boxes.giou(a, a), [1.0])
    assert np.isfinite(boxes.giou(np.zeros((1, 4)), np.zeros((1, 4)))).all()


@pytest.mark.parametrize("side", [1e-5, 1.0, 1e4])
def test_giou_does_not_depend_on_the_unit(side):
    some = np.array([[0, 0, 1, 1], [0, 0, 2, 1], [5, 5, 5, 5]]) * side
    np.testing.assert_allclose(boxes.giou(some, some), [1, 1, 0])
    np.testing.assert_allclose(boxes.giou(some[:1], some[1:2]), [0.5])


def test_clip_keeps_boxes_inside():
    box = np.array([[-5.0, 2.0, 300.0, 80.0], [250.0, 90.0, 260.0, 95.0]])
    np.testing.assert_array_equal(boxes.clip(box, (50, 200)), [[0, 2, 200, 50], [200, 50, 200, 50]])


def test_deltas_of_the_slides_transform():
    # bx = px + pw tx, by = py + ph ty, bw = pw exp(tw), bh = ph exp(th), with (px, py) the proposal's centre.
    proposal = np.array([[10.0, 10.0, 30.0, 50.0]])  # centre (20, 30), 20 x 40
    box = boxes.decode(np.array([[0.5, -0.25, np.log(2.0), np.log(0.5)]]), proposal)
    np.testing.assert_allclose(box, [[10.0, 10.0, 50.0, 30.0]])  # centre (30, 20), 40 x 20


@pytest.mark.parametrize("variances", [(1.0, 1.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)])
def test_decode_is_the_inverse_of_encode(variances):
    rng = np.random.default_rng(2)
    box, anchors = random_boxes(rng, 3, 40), random_boxes(rng, 3, 40)
    deltas = boxes.encode(box, anchors, variances)
    np.testing.assert_allclose(boxes.decode(deltas, anchors, variances), box, rtol=1e-6)


def test_deltas_of_degenerate_boxes_are_finite():
    degenerate = np.zeros((1, 4))
    assert np.isfinite(boxes.encode(degenerate, np.array([[0.0, 0, 10, 10]]))).all()
    assert np.isfinite(boxes.decode(np.full((1, 4), 1e4), np.array([[0.0, 0, 10, 10]]))).all()


def test_half_precision_tensors_are_computed_in_float32():
    box = keras.ops.cast([[0.0, 0.0, 300.0, 300.0]], "float16")
    area = boxes.area(box)
    assert keras.backend.standardize_dtype(area.dtype) == "float32"
    assert float(area[0]) == 90000.0  # float16 would overflow at 65504

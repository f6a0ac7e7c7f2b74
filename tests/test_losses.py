import keras
import numpy as np

from kzoo import losses


def test_smooth_l1_by_hand():
    values = losses.smooth_l1(np.zeros(5, "float32"), np.array([0.0, 0.5, -0.5, 1.0, -3.0], "float32"))
    np.testing.assert_allclose(values, [0, 0.125, 0.125, 0.5, 2.5])


def test_smooth_l1_with_sigma_three():
    # Faster R-CNN's code: 0.5 (sigma d)^2 below 1 / sigma^2, |d| - 0.5 / sigma^2 above.
    values = losses.smooth_l1(np.zeros(2, "float32"), np.array([0.1, 1.0], "float32"), beta=1 / 9)
    np.testing.assert_allclose(values, [0.5 * 9 * 0.01, 1 - 0.5 / 9], rtol=1e-5)


def test_cross_entropy_equals_the_definition_and_survives_half_precision():
    logits = np.array([[[2.0, 1.0, 0.1], [0.0, 0.0, 0.0]]], "float32")
    expected = -np.log(np.exp(2.0) / np.exp(logits[0, 0]).sum()), np.log(3)
    np.testing.assert_allclose(losses.softmax_cross_entropy(np.array([[0, 2]]), logits)[0], expected, rtol=1e-5)
    large = losses.softmax_cross_entropy(np.array([[1]]), np.array([[[6e4, -6e4]]], "float16"))
    np.testing.assert_allclose(large, [[1.2e5]], rtol=1e-2)  # beyond float16's 65504


def test_the_hardest_three_negatives_a_positive_are_kept_in_each_image():
    loss = np.array([[9, 1, 5, 3, 4, 2], [9, 8, 7, 6, 5, 4], [1, 1, 1, 1, 1, 1]], "float32")
    positive = np.array([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]], bool)
    hard = keras.ops.convert_to_numpy(losses.hard_negatives(loss, positive, ~positive))
    np.testing.assert_array_equal(hard[0], [0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(hard[1], [0] * 6)  # no positive, no negative
    np.testing.assert_array_equal(hard[2], [0, 0, 0, 1, 1, 1])


def test_ignored_anchors_are_never_mined():
    loss = np.array([[1, 9, 2]], "float32")
    hard = losses.hard_negatives(loss, np.array([[True, False, False]]), np.array([[False, False, True]]))
    np.testing.assert_array_equal(hard, [[False, False, True]])


def test_equal_losses_keep_exactly_the_wanted_count():
    positive = np.zeros((1, 50), bool)
    positive[0, :4] = True
    hard = losses.hard_negatives(np.ones((1, 50), "float32"), positive, ~positive)
    assert int(keras.ops.sum(keras.ops.cast(hard, "int32"))) == 12


def test_no_anchors():
    empty = np.zeros((2, 0))
    assert losses.hard_negatives(empty.astype("float32"), empty.astype(bool), empty.astype(bool)).shape == (2, 0)

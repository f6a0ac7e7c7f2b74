import keras
import numpy as np
import pytest

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


def test_weighted_cross_entropy_multiplies_each_class_by_its_weight():
    logits = np.array([[2.0, 1.0, 0.1], [0.0, 0.0, 0.0]], "float32")
    # L = -sum w_c log p_c, one term an example: softmax(2, 1, .1) = (.659, .2424, .0986).
    values = losses.weighted_cross_entropy(np.array([1, 2]), logits, [0.5, 3.0, 10.0])
    np.testing.assert_allclose(values, [3 * 1.41703, 10 * np.log(3)], rtol=1e-4)


def test_focal_loss_by_hand():
    # p = 0.9 and 0.1: a positive costs .25 (1 - .9)^2 (-ln .9), a negative .75 .9^2 (-ln .1).
    logits = np.log([9.0, 9.0, 1 / 9, 1 / 9]).astype("float32")
    values = losses.sigmoid_focal_loss(np.array([1, 0, 1, 0]), logits)
    expected = [0.25 * 0.01 * 0.105361, 0.75 * 0.81 * 2.302585, 0.25 * 0.81 * 2.302585, 0.75 * 0.01 * 0.105361]
    np.testing.assert_allclose(values, expected, rtol=1e-4)


def test_focal_loss_without_focus_is_the_balanced_and_the_plain_cross_entropy():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (5, 7)).astype("float32"), rng.integers(0, 2, (5, 7))
    plain = -np.where(targets, -np.logaddexp(0, -logits), -np.logaddexp(0, logits))
    np.testing.assert_allclose(losses.sigmoid_focal_loss(targets, logits, None, 0.0), plain, rtol=1e-5)
    balanced = losses.sigmoid_focal_loss(targets.astype(bool), logits, 0.75, 0.0)
    np.testing.assert_allclose(balanced, np.where(targets, 0.75, 0.25) * plain, rtol=1e-5)
    # Softmax over (0, x) is the sigmoid of x, so this is the weighted cross-entropy of two classes.
    pairs = np.stack([np.zeros_like(logits), logits], -1)
    np.testing.assert_allclose(losses.weighted_cross_entropy(targets, pairs, [0.25, 0.75]), balanced, rtol=1e-4)


def test_focal_loss_is_finite_for_huge_logits_in_half_precision():
    logits = np.array([6e4, -6e4, 6e4, -6e4], "float16")
    values = keras.ops.convert_to_numpy(losses.sigmoid_focal_loss(np.array([1, 0, 0, 1]), logits, None))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [0, 0, 6e4, 6e4], rtol=1e-2)


def test_the_gradient_of_the_focal_loss_is_that_of_its_equation_and_finite_everywhere():
    logits, targets = np.array([-100.0, -2.0, 0.0, 0.5, 3.0, 100.0], "float32"), np.array([1, 0, 1, 1, 0, 1])
    for gamma in (0.5, 2.0):
        gradient = _gradient(lambda x, g=gamma: losses.sigmoid_focal_loss(targets, x, 0.25, g), logits)
        step = 1e-4
        p = [1 / (1 + np.exp(-(logits.astype("float64") + d))) for d in (-step, step)]
        pt = [np.where(targets, q, 1 - q) for q in p]
        low, high = (-np.where(targets, 0.25, 0.75) * (1 - q) ** gamma * np.log(np.maximum(q, 1e-300)) for q in pt)
        np.testing.assert_allclose(gradient, (high - low) / (2 * step), rtol=1e-3, atol=1e-6)


def _gradient(function, x):
    """d sum(function(x)) / dx under the backend in use."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda v: keras.ops.sum(function(v)))(x))
    tf = pytest.importorskip("tensorflow")
    x = tf.Variable(x)
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(function(x))
    return tape.gradient(loss, x).numpy()

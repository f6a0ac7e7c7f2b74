"""Focal and Dice loss of label maps against their definitions."""

import keras
import numpy as np
import pytest

from kzoo import losses


def numpy_of(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_softmax_focal_loss_is_its_definition(gamma):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (4, 5, 3)), rng.integers(0, 3, (4, 5))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    p = np.take_along_axis(p, labels[..., None], -1)[..., 0]
    found = losses.softmax_focal_loss(labels, logits.astype("float32"), gamma)
    np.testing.assert_allclose(numpy_of(found), -((1 - p) ** gamma) * np.log(p), rtol=1e-4, atol=1e-6)


def test_softmax_focal_loss_is_finite_for_certain_and_for_wrong_pixels():
    layer = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    layer.kernel.assign([[100.0, -100.0]])
    model.compile("sgd", loss=lambda y, logits: losses.softmax_focal_loss(keras.ops.cast(y[:, 0], "int32"), logits))
    model.train_on_batch(np.ones((2, 1)), np.array([[0], [1]]))
    assert np.isfinite(layer.get_weights()[0]).all()


def test_dice_loss_is_its_definition_with_weights():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(2, 4, 5, 3)).astype("float32"), rng.integers(0, 3, (2, 4, 5))
    weights = rng.integers(0, 3, labels.shape).astype("float32")
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    scores = []
    for c in range(3):
        both = (weights * p[..., c] * (labels == c)).sum()
        total = (weights * p[..., c]).sum() + (weights * (labels == c)).sum()
        scores.append((2 * both + 1) / (total + 1))
    found = losses.soft_dice_loss(labels, logits, weights)
    np.testing.assert_allclose(float(found), 1 - np.mean(scores), rtol=1e-5)


def test_dice_loss_is_zero_where_all_is_right_and_small_without_any_pixel():
    labels = np.array([[0, 1, 1]])
    logits = np.where(np.eye(3)[labels] > 0, 50.0, -50.0).astype("float32")
    assert float(losses.soft_dice_loss(labels, logits)) == pytest.approx(0, abs=1e-6)
    assert float(losses.soft_dice_loss(labels, logits, np.zeros((1, 3)))) == pytest.approx(0, abs=1e-6)
    wrong = float(losses.soft_dice_loss(1 - labels, logits))
    assert wrong > 0.4

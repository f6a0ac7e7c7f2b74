"""What holds while a network settles, and what is as before afterwards."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training import settled


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    model = kzoo.models.UNet(2, image_size=16, padding="same", width=0.06, depth=2, dropout=0.5, batch_norm=True)
    model.get_layer("up1_conv1_bn").trainable = False  # by the user
    return model


def batches(n: int = 3):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (n, 2, 16, 16, 3)).astype("float32")
    return images, (images[..., 0] > 128).astype("int32")


def norms_of(model) -> list:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_a_settling_network_predicts_in_training_as_it_does_else(network):
    images, _ = batches()
    assert np.abs(np.subtract(network(images[0], training=True), network(images[0], training=False))).max() > 0.01
    with settled(network, images):
        training, predicted = (np.asarray(network(images[0], training=mode)) for mode in (True, False))
        np.testing.assert_allclose(training, predicted, atol=1e-5)
    assert np.abs(np.subtract(network(images[0], training=True), network(images[0], training=False))).max() > 0.01


def test_statistics_are_those_of_the_images_without_dropout(network):
    images, _ = batches()
    with settled(network, images):
        first = network.get_layer("down1_conv1_bn")
        before = keras.Model(network.input, network.get_layer("down1_conv1").output)
        seen = np.stack([np.asarray(before(batch)) for batch in images])  # (batches, B, h, w, C)
        np.testing.assert_allclose(first.moving_mean, seen.mean((0, 1, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(first.moving_variance, seen.var((1, 2, 3)).mean(0), rtol=1e-4)
        after_dropout = network.get_layer("bottom3_conv1_bn").moving_variance.numpy()
    with settled(network, images):  # nothing is drawn
        np.testing.assert_array_equal(network.get_layer("bottom3_conv1_bn").moving_variance, after_dropout)


def test_fit_moves_kernels_but_no_statistics(network):
    images, masks = batches()
    with settled(network, images):
        network.compile(keras.optimizers.Adam(1e-2))
        kept = [np.array(weight) for layer in norms_of(network) for weight in layer.weights]
        kernel = np.array(network.get_layer("down1_conv1").kernel)
        network.fit(images[0], masks[0], epochs=2, verbose=0)
        for weight, value in zip((w for layer in norms_of(network) for w in layer.weights), kept, strict=True):
            np.testing.assert_array_equal(weight, value)
        assert np.abs(np.array(network.get_layer("down1_conv1").kernel) - kernel).max() > 1e-3


def test_all_is_as_before_also_after_an_error(network):
    before = [(layer.name, layer.trainable, getattr(layer, "rate", None)) for layer in network.layers]
    assert {layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)} == {0.5}
    with settled(network, batches()[0]):
        assert {layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)} == {0.0}
        assert not any(layer.trainable for layer in norms_of(network))
    assert before == [(layer.name, layer.trainable, getattr(layer, "rate", None)) for layer in network.layers]
    with pytest.raises(ValueError, match="shape"), settled(network, [np.zeros((1, 8, 8, 4), "float32")]):
        pass
    assert before == [(layer.name, layer.trainable, getattr(layer, "rate", None)) for layer in network.layers]


def test_a_network_without_dropout_and_batch_norm_stays_as_it_is():
    model = kzoo.models.UNet(2, image_size=16, padding="same", width=0.06, depth=1, dropout=0.0)
    before = model.get_weights()
    with settled(model, batches()[0]):
        assert all(layer.trainable for layer in model.layers)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)

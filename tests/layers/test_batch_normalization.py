"""The fused form against Keras' own layer."""

import keras
import numpy as np
import pytest

from kzoo.layers import BatchNormalization

MAPS = [(4, 5, 6, 3), (1, 1, 1, 2), (2, 1, 3, 8)]


def pair(channels, **arguments):
    """Ours and Keras', with the same weights, none of them trivial."""
    rng = np.random.default_rng(0)
    layers = [kind(**arguments) for kind in (BatchNormalization, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.build((None, None, None, channels))
    weights = [rng.uniform(0.5, 2.0, weight.shape) for weight in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def numbers(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False, "momentum": 0.9, "epsilon": 1e-2}])
def test_output_and_moving_averages_equal_those_of_keras(shape, training, arguments):
    x = np.random.default_rng(1).normal(3, 2, shape).astype("float32")
    ours, theirs = pair(shape[-1], **arguments)
    np.testing.assert_allclose(numbers(ours(x, training=training)), numbers(theirs(x, training=training)), atol=2e-5)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients are taken with TensorFlow's tape")
@pytest.mark.parametrize(("training", "frozen"), [(True, False), (False, False), (True, True)])
def test_gradients_equal_those_of_keras(training, frozen):
    import tensorflow as tf

    x = tf.constant(np.random.default_rng(1).normal(3, 2, (4, 5, 6, 3)).astype("float32"))
    upstream = np.random.default_rng(2).normal(size=x.shape).astype("float32")
    gradients = []
    for layer in pair(3):
        layer.trainable = not frozen
        sources = [x, *(weight.value for weight in layer.trainable_weights)]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.function(layer)(x, training=training)
        gradients.append(tape.gradient(y, sources, output_gradients=upstream))
    assert len(gradients[0]) == (1 if frozen else 3)
    for mine, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


def test_a_frozen_layer_predicts_even_in_training():
    x = np.random.default_rng(1).normal(3, 2, (2, 4, 4, 3)).astype("float32")
    layer, _ = pair(3)
    layer.trainable = False
    before = layer.get_weights()
    np.testing.assert_allclose(numbers(layer(x, training=True)), numbers(layer(x, training=False)), atol=1e-5)
    for mine, other in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_leaves_the_averages_finite(training):
    layer, _ = pair(3)
    assert layer(np.zeros((0, 4, 4, 3), "float32"), training=training).shape == (0, 4, 4, 3)
    if not training:
        assert all(np.isfinite(weight).all() for weight in layer.get_weights())


def test_it_survives_config_serialization_and_half_precision(run_layer_test):
    x = np.random.default_rng(1).normal(3, 2, (2, 4, 4, 3)).astype("float32")
    run_layer_test(BatchNormalization, {"momentum": 0.9}, (x,))


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [((4, 6, 3), {}), ((4, 3), {}), ((2, 3, 5, 6), {"axis": 1}), ((2, 4, 4, 3), {"dtype": "float64"})],
)
def test_what_the_kernel_does_not_know_is_left_to_keras(shape, arguments):
    x = np.random.default_rng(1).normal(3, 2, shape)
    ours, theirs = (kind(**arguments) for kind in (BatchNormalization, keras.layers.BatchNormalization))
    np.testing.assert_array_equal(numbers(ours(x, training=True)), numbers(theirs(x, training=True)))


def test_it_reads_the_weights_of_a_keras_layer(tmp_path):
    def network(kind):
        image = keras.Input((4, 4, 3))
        return keras.Model(image, kind(name="bn")(keras.layers.Conv2D(3, 1)(image)))

    theirs, ours = network(keras.layers.BatchNormalization), network(BatchNormalization)
    theirs.save_weights(tmp_path / "net.weights.h5")
    ours.load_weights(tmp_path / "net.weights.h5")
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 3)).astype("float32")
    np.testing.assert_allclose(numbers(ours(x)), numbers(theirs(x)), atol=1e-5)

"""Winograd's algorithm against the plain convolution, and where the layer takes it."""

import keras
import numpy as np
import pytest

from kzoo.layers import Conv2D
from kzoo.layers.kernels import portable_operators

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the algorithm is TensorFlow's")
SHAPES = [(2, 9, 13, 5, 7), (1, 4, 4, 1, 1), (3, 6, 5, 2, 3), (1, 3, 3, 2, 2), (1, 17, 8, 3, 2)]  # (B, H, W, C, K)


def by_loops(images, kernel, padding):
    if padding == "same":
        images = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    batch, height, width, _ = images.shape
    outputs = np.zeros((batch, height - 2, width - 2, kernel.shape[-1]))
    for i in range(height - 2):
        for j in range(width - 2):
            outputs[:, i, j] = np.tensordot(images[:, i : i + 3, j : j + 3], kernel, 3)
    return outputs


@tensorflow_only
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_winograd_gives_the_sums_of_the_definition(shape, padding):
    from kzoo.layers import winograd

    rng = np.random.default_rng(0)
    images = rng.normal(size=shape[:4]).astype("float32")
    kernel = rng.normal(size=(3, 3, *shape[3:])).astype("float32")
    outputs = winograd.convolve(keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(kernel), padding)
    np.testing.assert_allclose(outputs, by_loops(images, kernel, padding), atol=1e-4)


@tensorflow_only
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_its_gradients_are_those_of_the_plain_convolution(shape, padding):
    import tensorflow as tf

    from kzoo.layers import winograd

    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=shape[:4]).astype("float32"))
    kernel = tf.constant(rng.normal(size=(3, 3, *shape[3:])).astype("float32"))
    plain = tf.nn.conv2d(images, kernel, 1, padding.upper())
    upstream = rng.normal(size=plain.shape).astype("float32")
    gradients = []
    for convolve in (winograd.convolve, lambda x, w, _: tf.nn.conv2d(x, w, 1, padding.upper())):
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            outputs = convolve(images, kernel, padding)
        gradients.append(tape.gradient(outputs, (images, kernel), output_gradients=upstream))
    for mine, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-4)


@tensorflow_only
def test_its_rounding_error_is_below_a_hundred_thousandth():
    import tensorflow as tf

    from kzoo.layers import winograd

    rng = np.random.default_rng(2)
    images = tf.constant(rng.normal(size=(1, 32, 32, 256)))
    kernel = tf.constant(rng.normal(size=(3, 3, 256, 128)))
    exact = tf.nn.conv2d(images, kernel, 1, "SAME").numpy()
    found = winograd.convolve(tf.cast(images, "float32"), tf.cast(kernel, "float32"), "same").numpy()
    assert np.sqrt(np.mean((found - exact) ** 2)) < 5e-6 * exact.std()
    assert np.abs(found - exact).max() < 5e-5 * exact.std()


@tensorflow_only
def test_an_empty_batch_and_one_of_unknown_size():
    import tensorflow as tf

    layer = Conv2D(128, 3, padding="same")
    call = tf.function(layer, input_signature=[tf.TensorSpec((None, 28, 28, 128))])
    assert call(np.zeros((0, 28, 28, 128), "float32")).shape == (0, 28, 28, 128)
    assert call(np.zeros((2, 28, 28, 128), "float32")).shape == (2, 28, 28, 128)


def operators(layer, shape, context=None):
    import contextlib

    import tensorflow as tf

    with context or contextlib.nullcontext():
        graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec(shape)).graph
    return {operator.type for operator in graph.get_operations()}


@tensorflow_only
def test_it_takes_the_shortcut_for_large_maps_of_many_channels():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("beside a GPU the plain operator is used")
    found = operators(Conv2D(128, 3, padding="same", activation="relu"), (None, 40, 40, 128))
    assert "Conv2D" not in found
    assert "BatchMatMulV2" in found


@tensorflow_only
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, (1, 16, 16, 128)),
        ({}, (1, 40, 40, 64)),
        ({}, (1, None, None, 128)),
        ({"filters": 64}, (1, 40, 40, 128)),
        ({"strides": 2}, (1, 80, 80, 128)),
        ({"dilation_rate": 2}, (1, 40, 40, 128)),
        ({"groups": 2}, (1, 40, 40, 256)),
        ({"kernel_size": 1}, (1, 40, 40, 128)),
        ({"dtype": "mixed_bfloat16"}, (1, 40, 40, 128)),
    ],
)
def test_everything_else_is_the_plain_operator(arguments, shape):
    layer = Conv2D(**{"filters": 128, "kernel_size": 3, "padding": "same"} | arguments)
    assert "BatchMatMulV2" not in operators(layer, shape)


@tensorflow_only
def test_files_get_the_plain_operator():
    found = operators(Conv2D(128, 3, padding="same"), (1, 40, 40, 128), portable_operators())
    assert "Conv2D" in found
    assert "BatchMatMulV2" not in found


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_layer_gives_what_that_of_keras_gives(padding):
    ours, theirs = (kind(130, 3, padding=padding, activation="relu") for kind in (Conv2D, keras.layers.Conv2D))
    x = np.random.default_rng(3).normal(size=(2, 29, 31, 128)).astype("float32")
    for layer in (ours, theirs):
        layer.build(x.shape)
    ours.set_weights([weight + 0.1 for weight in ours.get_weights()])
    theirs.set_weights(ours.get_weights())
    found, expected = (keras.ops.convert_to_numpy(layer(x)) for layer in (ours, theirs))
    np.testing.assert_allclose(found, expected, atol=2e-3)  # the sums are of a size of 100


def test_it_survives_config_serialization_and_half_precision(run_layer_test):
    x = np.random.default_rng(1).normal(size=(2, 28, 28, 128)).astype("float32")
    run_layer_test(Conv2D, {"filters": 128, "kernel_size": 3, "padding": "same"}, (x,))

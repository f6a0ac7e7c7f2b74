import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import separable_conv2d


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_the_depthwise_part_keeps_the_variance_of_its_inputs(kernel_size):
    keras.utils.set_random_seed(0)
    layer = separable_conv2d(128, kernel_size, use_bias=False)
    x = np.random.default_rng(0).normal(size=(1, 24, 24, 128)).astype("float32")
    layer.build(x.shape)
    layer.pointwise_kernel.assign(np.eye(128, dtype="float32")[None, None])
    assert ops.convert_to_numpy(layer(x)).std() == pytest.approx(1.0, abs=0.05)


def test_keras_own_start_damps_the_more_the_more_channels_there_are():
    keras.utils.set_random_seed(0)
    layer = keras.layers.SeparableConv2D(256, 3, use_bias=False)
    x = np.random.default_rng(0).normal(size=(1, 24, 24, 256)).astype("float32")
    layer.build(x.shape)
    layer.pointwise_kernel.assign(np.eye(256, dtype="float32")[None, None])
    # Glorot's 2 / (9 x 256 + 9) for each of nine products: what the docstring says, and why the layer is there.
    expected = (9 * 2 / (9 * 256 + 9)) ** 0.5
    assert ops.convert_to_numpy(layer(x)).std() == pytest.approx(expected, rel=0.1)


def test_it_comes_back_from_its_config_and_takes_half_precision():
    layer = separable_conv2d(4, 3, strides=2, padding="same", name="conv", dtype="float16")
    again = keras.layers.SeparableConv2D.from_config(layer.get_config())
    assert again.depthwise_initializer.stddev == layer.depthwise_initializer.stddev == 1 / 3
    out = ops.convert_to_numpy(again(np.ones((2, 6, 8, 3), "float16")))
    assert (out.shape, out.dtype) == ((2, 3, 4, 4), np.float16)
    assert np.isfinite(out).all()
    # No empty batch: TensorFlow's oneDNN convolutions leave those the shape of their input, whatever the stride, and in
    # half precision they run on some processors only.

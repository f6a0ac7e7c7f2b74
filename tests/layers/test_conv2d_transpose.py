"""Upsampling: the worked examples of bilinear interpolation and transposed convolution, and FCN's bilinear start."""

import keras
import numpy as np
import pytest

from kzoo.layers import Conv2DTranspose


def test_bilinear_interpolation_of_the_slides():
    x = np.array([[1, 2], [3, 4]], "float32")[None, :, :, None]
    expected = [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]]
    y = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(y)[0, :, :, 0], expected)


def test_transposed_convolution_of_the_slides_adds_up_where_kernels_overlap():
    # 3x3 kernel, stride 2: each input pixel, times the kernel, is laid down two pixels further; one row and one column
    # are covered twice.
    kernel = np.arange(1, 10, dtype="float32").reshape(3, 3)
    x = np.array([[1, 2], [3, 4]], "float32")
    expected = np.zeros((5, 5))
    for i in range(2):
        for j in range(2):
            expected[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += x[i, j] * kernel
    assert expected[0, 2] == 1 * 3 + 2 * 1
    assert expected[2, 2] == 1 * 9 + 2 * 7 + 3 * 3 + 4 * 1
    layer = Conv2DTranspose(1, 2, kernel_size=3, padding="valid", kernel_initializer="ones")
    layer.build((1, 2, 2, 1))
    layer.kernel.assign(kernel[:, :, None, None])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x[None, :, :, None]))[0, :, :, 0], expected)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_the_start_is_bilinear_interpolation_inside_the_border(factor):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")
    y = keras.ops.convert_to_numpy(Conv2DTranspose(3, factor)(x))
    expected = keras.ops.convert_to_numpy(keras.layers.UpSampling2D(factor, interpolation="bilinear")(x))
    assert y.shape == (2, 5 * factor, 6 * factor, 3)
    edge = factor // 2
    inside = slice(edge, -edge or None)
    np.testing.assert_allclose(y[:, inside, inside], expected[:, inside, inside], atol=1e-5)


def test_a_fixed_kernel_is_not_trained():
    layer = Conv2DTranspose(2, 4, fixed=True)
    layer.build((None, 3, 3, 2))
    assert not layer.trainable_weights
    assert layer.kernel.shape == (8, 8, 2, 2)
    assert len(Conv2DTranspose(2, 4, fixed=False).get_config()) == len(layer.get_config())


def test_a_bilinear_start_refuses_to_change_the_channels():
    with pytest.raises(ValueError, match=r"filters must be 3.*Received: 2"):
        Conv2DTranspose(2, 2)(np.zeros((1, 2, 2, 3), "float32"))


def test_layer_contract(run_layer_test):
    x = np.random.default_rng(1).normal(size=(1, 3, 4, 2)).astype("float32")
    layer, _ = run_layer_test(Conv2DTranspose, {"filters": 2, "factor": 2, "fixed": True}, (x,))
    assert not Conv2DTranspose.from_config(layer.get_config()).trainable
    run_layer_test(Conv2DTranspose, {"filters": 2, "factor": 3, "padding": "valid"}, (x,))
    assert Conv2DTranspose(2, 2)(np.zeros((0, 3, 3, 2), "float32")).shape == (0, 6, 6, 2)

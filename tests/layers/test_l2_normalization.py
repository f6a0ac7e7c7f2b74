import keras
import numpy as np

from kzoo.layers import L2Normalization, PixelNormalization


def test_each_position_gets_the_length_of_the_scale():
    x = np.array([[[[3.0, 4.0], [0.3, 0.4]]]], "float32")
    np.testing.assert_allclose(L2Normalization(20.0)(x), [[[[12, 16], [12, 16]]]], rtol=1e-5)


def test_a_zero_vector_stays_zero_with_a_finite_gradient():
    layer = L2Normalization()
    assert float(keras.ops.max(keras.ops.abs(layer(np.zeros((1, 2, 2, 3), "float32"))))) == 0.0


def test_large_half_precision_features_do_not_overflow():
    x = np.full((1, 1, 1, 512), 300.0, "float16")  # the squared norm, 4.6e7, is beyond float16
    y = keras.ops.convert_to_numpy(L2Normalization(20.0, dtype="float16")(x))
    np.testing.assert_allclose(y, 20 / 512**0.5, rtol=2e-3)


def test_layer_contract(run_layer_test):
    layer, _ = run_layer_test(
        L2Normalization, {"scale": 10.0}, (np.random.default_rng(0).random((2, 3, 4, 5)).astype("float32"),)
    )
    assert layer.gamma.shape == (5,)
    assert L2Normalization()(np.zeros((0, 3, 3, 4), "float32")).shape == (0, 3, 3, 4)


def test_pixels_are_normalised_as_the_pretrained_networks_expect(run_layer_test):
    pixels = np.array([[[[0.0, 127.5, 255.0]]]], "float32")
    np.testing.assert_allclose(PixelNormalization("unit")(pixels), [[[[-1, 0, 1]]]])
    expected = keras.applications.vgg16.preprocess_input(pixels.copy())
    np.testing.assert_allclose(PixelNormalization("caffe")(pixels), expected, rtol=1e-5)
    run_layer_test(PixelNormalization, {"mode": "caffe"}, (pixels,))

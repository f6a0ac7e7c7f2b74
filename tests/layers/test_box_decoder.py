import keras
import numpy as np
import pytest

from kzoo.layers import BoxDecoder

ANCHORS = np.array([[0, 0, 10, 20], [30, 30, 50, 40]], "float32")


def test_zero_deltas_leave_the_anchors():
    boxes = BoxDecoder()(np.zeros((3, 2, 4), "float32"), ANCHORS)
    np.testing.assert_allclose(boxes, np.broadcast_to(ANCHORS, (3, 2, 4)))


def test_variances_scale_the_deltas():
    # SSD: a delta of 1 along x with variance 0.1 moves the box by a tenth of the anchor's width.
    boxes = BoxDecoder((0.1, 0.1, 0.2, 0.2))(np.array([[[1, 0, 0, 0], [0, 0, 5 * np.log(2), 0]]], "float32"), ANCHORS)
    np.testing.assert_allclose(boxes, [[[1, 0, 11, 20], [20, 30, 60, 40]]], rtol=1e-5)


def test_encode_is_the_inverse():
    rng = np.random.default_rng(0)
    deltas = rng.normal(size=(2, 2, 4)).astype("float32")
    decoder = BoxDecoder((0.1, 0.1, 0.2, 0.2))
    np.testing.assert_allclose(decoder.encode(decoder(deltas, ANCHORS), ANCHORS), deltas, atol=1e-4)


def test_half_precision_deltas_decode_in_float32():
    anchors = np.array([[1000.0, 1000.0, 1003.0, 1003.0]], "float32")
    boxes = BoxDecoder(dtype="float32")(keras.ops.cast(np.zeros((1, 4)), "float16"), anchors)
    np.testing.assert_array_equal(boxes, anchors)  # float16 cannot tell 1002.5 from 1003


def test_no_boxes():
    assert BoxDecoder()(np.zeros((2, 0, 4), "float32"), np.zeros((0, 4), "float32")).shape == (2, 0, 4)


def test_layer_contract(run_layer_test):
    run_layer_test(BoxDecoder, {"variances": (0.1, 0.1, 0.2, 0.2)}, (np.ones((3, 2, 4), "float32"), ANCHORS))


def test_bad_variances_are_refused():
    with pytest.raises(ValueError, match="four positive numbers"):
        BoxDecoder((0.1, 0.2))

"""Anchors by hand and against the papers' counts."""

import keras
import numpy as np
import pytest

from kzoo.layers import AnchorGenerator

FASTER_RCNN = {"sizes": [[128, 256, 512]], "aspect_ratios": [0.5, 1, 2], "strides": [16]}


def test_a_cell_has_its_anchors_around_its_centre():
    anchors = keras.ops.convert_to_numpy(AnchorGenerator([[8]], [[1]], [4])((4, 8)))
    np.testing.assert_allclose(anchors, [[-2, -2, 6, 6], [2, -2, 10, 6]])


def test_an_anchor_keeps_its_area_at_every_aspect_ratio():
    anchors = keras.ops.convert_to_numpy(AnchorGenerator([[32]], [[0.5, 1, 2, 3]], [16])((16, 16)))
    width, height = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    np.testing.assert_allclose(width * height, 32.0**2, rtol=1e-5)
    np.testing.assert_allclose(width / height, [0.5, 1, 2, 3], rtol=1e-5)


def test_faster_rcnn_has_nine_anchors_a_cell():
    # Section 3.3: a feature map of 60 x 40 has about 20000 anchors.
    generator = AnchorGenerator(**FASTER_RCNN)
    assert generator.anchors_per_cell == [9]
    assert generator((600, 1000)).shape == (38 * 63 * 9, 4)


def test_levels_follow_one_another_and_extra_squares_come_last_in_a_cell():
    generator = AnchorGenerator([[10], [20]], [[1, 2], [1]], [8, 16], extra_squares=[[15], []])
    anchors = keras.ops.convert_to_numpy(generator((8, 16)))
    assert generator.anchors_per_cell == [3, 1]
    assert anchors.shape == (2 * 3 + 1 * 1, 4)
    width = anchors[:, 2] - anchors[:, 0]
    np.testing.assert_allclose(width, [10, 10 * 2**0.5, 15] * 2 + [20], rtol=1e-6)


def test_feature_maps_give_the_same_anchors_as_the_image_shape():
    generator = AnchorGenerator([[16], [32]], [1], [8, 16])
    features = [np.zeros((2, 5, 8, 3)), np.zeros((2, 3, 4, 3))]
    np.testing.assert_array_equal(generator((40, 64)), generator(features))


def test_strides_may_differ_along_y_and_x():
    anchors = keras.ops.convert_to_numpy(AnchorGenerator([[2]], [1], [(4, 10)])((8, 10)))
    np.testing.assert_allclose(anchors, [[4, 1, 6, 3], [4, 5, 6, 7]])


def test_config_round_trip_and_shapes(run_layer_test):
    features = np.zeros((1, 3, 5, 7), "float32")
    layer = AnchorGenerator(**FASTER_RCNN)
    clone = AnchorGenerator.from_config(layer.get_config())
    np.testing.assert_array_equal(clone([features]), layer([features]))
    assert layer.compute_output_spec([features]).shape == (3 * 5 * 9, 4)


def test_unequal_levels_are_refused():
    with pytest.raises(ValueError, match="one entry a level"):
        AnchorGenerator([[8], [16]], [1, 2], [8])
    with pytest.raises(ValueError, match="one a level"):
        AnchorGenerator([[8], [16]], [1, 2], [8, 16])([np.zeros((1, 2, 2, 3))])

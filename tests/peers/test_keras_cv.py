"""Parity with keras-cv (extra `keras-cv`): IoU, anchors, NMS, and its backbones under our heads."""

import keras
import numpy as np
import pytest

import kzoo

keras_cv = pytest.importorskip("keras_cv", reason="needs the extra keras-cv")


def random_boxes(rng, *shape):
    corner = rng.uniform(0, 200, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(10, 80, (*shape, 2))], -1).astype("float32")


def test_iou_agrees():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 4, 30), random_boxes(rng, 4, 50)
    theirs = keras_cv.bounding_box.compute_iou(a, b, bounding_box_format="xyxy")
    np.testing.assert_allclose(kzoo.boxes.iou(a, b), theirs, atol=1e-5)


def test_anchors_agree():
    scales, ratios = [1.0, 2 ** (1 / 3), 2 ** (2 / 3)], [0.5, 1.0, 2.0]
    theirs = keras_cv.layers.AnchorGenerator("xyxy", [64.0], scales, ratios, [16])(image_shape=(96, 128, 3))
    ours = kzoo.layers.AnchorGenerator([[64 * s for s in scales]], ratios, [16])((96, 128))

    def in_order(anchors):  # both tile the same boxes, in another order
        return sorted(map(tuple, np.round(keras.ops.convert_to_numpy(anchors), 3)))

    theirs = np.concatenate([keras.ops.convert_to_numpy(level) for level in theirs.values()])
    np.testing.assert_allclose(in_order(ours), in_order(theirs), atol=2e-3)


def test_nms_agrees():
    rng = np.random.default_rng(1)
    boxes, scores = random_boxes(rng, 3, 100), rng.uniform(size=(3, 100, 1)).astype("float32")
    # keras-cv's layer takes the best class of each box first; with one class both mean the same.
    theirs = keras_cv.layers.NonMaxSuppression(
        "xyxy", False, iou_threshold=0.5, confidence_threshold=0.2, max_detections=50
    )
    theirs = theirs(boxes, scores)
    ours = kzoo.layers.NonMaxSuppression(0.5, 0.2, 50)(boxes, scores)
    np.testing.assert_array_equal(ours["num_detections"], theirs["num_detections"])
    for image, count in enumerate(np.asarray(theirs["num_detections"])):
        np.testing.assert_allclose(ours["scores"][image, :count], theirs["confidence"][image, :count])
        np.testing.assert_allclose(ours["boxes"][image, :count], theirs["boxes"][image, :count], atol=1e-4)


def test_an_explicitly_constructed_backbone_carries_ssd_and_is_saved(tmp_path):
    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[8, 16, 32, 32],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=True,
        input_shape=(64, 96, 3),
    )
    model = kzoo.models.SSD(2, (64, 96), backbone)
    model.save(tmp_path / "ssd.keras")
    loaded = keras.models.load_model(tmp_path / "ssd.keras")
    images = np.random.default_rng(2).uniform(0, 255, (1, 64, 96, 3))
    np.testing.assert_array_equal(loaded.detect(images)["scores"], model.detect(images)["scores"])

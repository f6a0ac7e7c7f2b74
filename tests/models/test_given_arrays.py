"""Arrays that the loss cannot be of are refused in one sentence, before a step is made of them."""

import keras
import numpy as np
import pytest

from kzoo import models

IMAGES = np.zeros((2, 64, 64, 3), "float32")
BOXES = np.tile(np.array([[8, 8, 40, 40], [0, 0, 0, 0]], "float32"), (2, 1, 1))
LABELS = np.array([[0, -1], [1, -1]], "int32")
TARGETS = {"boxes": BOXES, "labels": LABELS}
MASKS = np.ones((2, 64, 64), "int32")


@pytest.fixture(scope="module", params=["ssd", "retinanet", "yolo"])
def detector(request):
    model = models.create(request.param, 2, backbone="tiny", width=0.25, image_size=64)
    model.compile("sgd")
    return model


@pytest.fixture(scope="module")
def segmenter():
    model = models.UNet(2, 64, "same", width=0.05, depth=1)
    model.compile("sgd")
    return model


@pytest.mark.parametrize(
    ("targets", "fault"),
    [
        (None, r"learns from targets .*Received: NoneType"),
        ((BOXES, LABELS), r"Received: tuple"),
        ({"bboxes": BOXES, "classes": LABELS}, r"Received: bboxes, classes"),
        ({"boxes": BOXES, "labels": LABELS + 2}, r"labels of 2 classes are 0 to 1.*Received: 3"),
    ],
)
def test_a_detector_names_what_it_learns_from(detector, targets, fault):
    for call in (detector.fit, detector.evaluate):
        with pytest.raises(ValueError, match=fault):
            call(IMAGES, targets, verbose=0)


def test_a_detector_names_its_size_and_goes_on_after_a_fault(detector):
    with pytest.raises(ValueError, match=r"takes images \(B, 64, 64, 3\). Received: \(2, 32, 64, 3\)"):
        detector.fit(IMAGES[:, :32], TARGETS, verbose=0)
    with pytest.raises(ValueError, match="no sample_weight"):
        detector.fit(IMAGES, TARGETS, sample_weight=np.ones(2), verbose=0)
    assert np.isfinite(detector.fit(IMAGES, TARGETS, verbose=0).history["loss"][0])


def test_other_losses_are_refused_and_not_ignored(detector):
    with pytest.raises(ValueError, match="loss inside: leave loss='mse' out"):
        detector.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="loss inside"):
        detector.compile("sgd", "mse")


@pytest.mark.parametrize(
    "masks", [MASKS[..., None], MASKS[:, :32], np.eye(2, dtype="int32")[MASKS], np.ones((2, 128, 128), "int32"), None]
)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_masks_of_another_shape_are_refused(segmenter, masks, batch_size):
    with pytest.raises(ValueError, match=r"Masks must be \(B, 64, 64\)|learns from masks"):
        segmenter.fit(IMAGES, masks, batch_size=batch_size, verbose=0)
    if masks is not None:
        with pytest.raises(ValueError, match=r"Masks must be \(B, 64, 64\)"):
            segmenter.train_on_batch(IMAGES, masks)


def test_masks_of_the_middle_are_those_of_valid_convolutions():
    model = models.UNet(2, 44, "valid", width=0.05, depth=1)
    model.compile("sgd")
    images = np.zeros((1, 44, 44, 3), "float32")
    middle = tuple(model.output_shape[1:3])
    for size in ((44, 44), middle):
        assert np.isfinite(model.evaluate(images, np.ones((1, *size), "int32"), verbose=0)[0])
    with pytest.raises(ValueError, match=rf"or \(B, {middle[0]}, {middle[1]}\) of the middle"):
        model.evaluate(images, np.ones((1, 40, 40), "int32"), verbose=0)


def test_images_of_several_sizes_are_named(detector, segmenter):
    mixed = [np.zeros((64, 64, 3)), np.zeros((32, 64, 3))]
    for call in (detector.detect, segmenter.segment):
        with pytest.raises(ValueError, match=r"one size in a call. Received: \(32, 64, 3\) and \(64, 64, 3\)"):
            call(mixed)
        with pytest.raises(ValueError, match=r"Add an axis: images\[None\]"):
            call(mixed[0])
        with pytest.raises(ValueError, match=r"Received shape: \(1, 0, 64, 3\)"):
            call(np.zeros((1, 0, 64, 3)))


@pytest.mark.parametrize("name", ["unet", "fcn8s", "deconvnet"])
@pytest.mark.parametrize("count", [0, 1, 256])
def test_a_segmenter_counts_the_background(name, count):
    with pytest.raises(ValueError, match=r"2 to 255 \(background is one of them\)"):
        models.create(name, count)


def test_the_name_of_a_model_is_checked_wherever_it_is_given():
    for call in (models.task, models.arguments, models.trains_in_stages):
        with pytest.raises(ValueError, match="Did you mean 'ssd'"):
            call("sssd")


def test_a_keras_file_is_told_from_a_damaged_one_and_a_folder(tmp_path, segmenter):
    segmenter.save(tmp_path / "model.keras")
    assert isinstance(models.load(tmp_path / "model.keras"), models.UNet)
    (tmp_path / "bad.keras").write_bytes((tmp_path / "model.keras").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"bad.keras: not a readable Keras file"):
        models.load(tmp_path / "bad.keras")
    with pytest.raises(ValueError, match="It is a folder"):
        models.load(tmp_path)
    keras.Model(segmenter.input, segmenter.output).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="no model of kzoo"):
        models.load(tmp_path / "other.keras")

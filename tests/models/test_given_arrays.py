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
        ({"boxes": BOXES[..., [2, 3, 0, 1]], "labels": LABELS}, r"xyxy.*\[40.0, 40.0, 8.0, 8.0\] in image 0; 2 of 2"),
        ({"boxes": BOXES * np.nan, "labels": LABELS}, r"Boxes are xyxy.*nan"),
        ({"boxes": BOXES / 64, "labels": LABELS}, r"in pixels, and these lie in 0..1"),
        ({"boxes": BOXES, "labels": LABELS[:, :1]}, r"\(B, N, 4\) and labels \(B, N\). Received: .*\(2, 1\)"),
        ({"boxes": BOXES, "labels": np.eye(2)[LABELS]}, r"labels \(B, N\). Received: .*\(2, 2, 2\)"),
    ],
)
def test_a_detector_names_what_it_learns_from(detector, targets, fault):
    for call in (detector.fit, detector.evaluate):
        with pytest.raises(ValueError, match=fault):
            call(IMAGES, targets, verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX has no assertions")
@pytest.mark.parametrize(
    ("boxes", "labels", "fault"),
    [
        (BOXES, LABELS + 2, "labels of 2 classes are 0 to 1"),
        (BOXES[..., [2, 3, 0, 1]], LABELS, "xywh or yxyx"),
        (BOXES * np.nan, LABELS, "xywh or yxyx"),
    ],
)
def test_batches_of_a_data_set_are_looked_at_in_the_step(detector, boxes, labels, fault):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((IMAGES, {"boxes": boxes, "labels": labels})).batch(2)
    for call in (detector.fit, detector.evaluate):
        with pytest.raises(tf.errors.InvalidArgumentError, match=fault):
            call(data, verbose=0)
    ragged = {"boxes": tf.RaggedTensor.from_tensor(boxes), "labels": tf.RaggedTensor.from_tensor(labels)}
    with pytest.raises(ValueError, match=r"no ragged targets: pad boxes with 0 and labels with -1"):
        detector.train_on_batch(IMAGES, ragged)


def test_boxes_without_area_pass_in_a_data_set_as_a_crop_may_leave_them(detector):
    targets = {"boxes": BOXES * [1, 1, 1, 0.2], "labels": LABELS}
    assert np.isfinite(detector.test_on_batch(IMAGES, targets)[0])


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


@pytest.mark.parametrize(("masks", "received"), [(MASKS + 1, 2), (MASKS - 2, -1), (MASKS * 254, 254)])
def test_labels_of_pixels_that_are_neither_class_nor_void_are_refused(segmenter, masks, received):
    for call in (segmenter.fit, segmenter.evaluate):
        with pytest.raises(ValueError, match=rf"Masks of 2 classes hold 0 to 1, and 255 .* Received: {received}"):
            call(IMAGES, {"masks": masks}, verbose=0)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with pytest.raises(tf.errors.InvalidArgumentError, match="Masks of 2 classes hold 0 to 1, and 255 for void"):
            segmenter.fit(tf.data.Dataset.from_tensor_slices((IMAGES, masks)).batch(2), verbose=0)


def test_black_and_white_masks_are_taken_with_a_warning(segmenter):
    black_and_white = np.where(np.arange(64) < 32, 0, 255) * MASKS
    with pytest.warns(UserWarning, match=r"0 and 255 only, and 255 is void: .* masks // 255"):
        segmenter.fit(IMAGES, black_and_white, verbose=0)


def test_weights_of_samples_may_come_with_masks_in_a_dict(segmenter):
    alone, twice = (
        segmenter.evaluate(IMAGES, masks, sample_weight=np.array([1.0, 3.0]), verbose=0)[0]
        for masks in (MASKS, {"masks": MASKS})
    )
    assert alone == twice
    with pytest.raises(ValueError, match=r"drop class_weight, and create it with .*class_weights"):
        segmenter.fit(IMAGES, MASKS, class_weight={0: 1.0, 1: 2.0}, verbose=0)


def test_a_loss_of_ones_own_takes_three_arguments_and_returns_a_number(segmenter):
    model = models.UNet(2, 64, "same", width=0.05, depth=1)
    with pytest.raises(ValueError, match=r"called as loss\(masks, logits, weights\)"):
        model.compile("sgd", loss=lambda masks, logits: keras.ops.mean(logits))
    model.compile("sgd", loss=lambda masks, logits, weights: keras.ops.mean(logits, -1) * weights)
    with pytest.raises(ValueError, match=r"returns one number, not an array \(.*64, 64\)"):
        model.fit(IMAGES, MASKS, verbose=0)


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

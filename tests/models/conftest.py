"""What the tests of all single-shot models share: batches, and scenes that a small network learns in seconds."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

import kzoo


@pytest.fixture(scope="session")
def random_batch() -> Callable:
    """Returns a function: seed -> images (B, H, W, 3) of noise and padded targets; the last box is padding."""

    def make(seed: int = 11, count: int = 2, size=(64, 96), boxes: int = 3, classes: int = 3):
        rng = np.random.default_rng(seed)
        height, width = size
        corner = rng.uniform(0, 0.6, (count, boxes, 2)) * [width, height]
        xyxy = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (count, boxes, 2)) * [width, height]], -1)
        labels = rng.integers(0, classes, (count, boxes))
        xyxy[:, -1], labels[:, -1] = 0, -1
        images = rng.uniform(0, 255, (count, height, width, 3)).astype("float32")
        return images, {"boxes": xyxy.astype("float32"), "labels": labels.astype("int32")}

    return make


@pytest.fixture(scope="session")
def rectangles() -> Callable:
    """Returns a function: (count, size, boxes) -> noise with a red (class 0) or blue (1) rectangle in each column."""

    def make(count: int = 8, size=(64, 96), boxes: int = 2):
        rng = np.random.default_rng(7)
        images = rng.uniform(100, 130, (count, *size, 3)).astype("float32")
        xyxy, labels = np.zeros((count, boxes, 4), "float32"), rng.integers(0, 2, (count, boxes)).astype("int32")
        column = size[1] // boxes
        for i in range(count):
            for j in range(boxes):
                w, h = rng.integers(size[0] // 3, min(column, size[0]) * 3 // 4, 2)
                x, y = column * j + rng.integers(0, column - w), rng.integers(0, size[0] - h)
                images[i, y : y + h, x : x + w] = [[255, 60, 0], [0, 60, 255]][labels[i, j]]
                xyxy[i, j] = x, y, x + w, y + h
        return images, {"boxes": xyxy, "labels": labels}

    return make


@pytest.fixture(scope="session")
def check_detector() -> Callable:
    """Returns a function that checks what holds for each detector: precision, empty images, saving, `detect`."""

    def check(make: Callable, random_batch: Callable, tmp_path) -> None:
        images, targets = random_batch()
        _a_step_lowers_the_loss_under_mixed_precision(make, images, targets)
        model = make()
        _images_without_objects_leave_finite_weights(model, images, targets)
        _a_saved_model_detects_the_same_and_goes_on_training(model, images, targets, tmp_path)
        _detect_takes_any_dtype_size_and_count(model, images)

    return check


def _compile(model, optimizer):
    model.compile(optimizer)
    model.optimizer.build(model.trainable_variables)  # or the first step would be traced twice


def _a_step_lowers_the_loss_under_mixed_precision(make, images, targets):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(1)
        model = make()
    finally:
        keras.config.set_dtype_policy(before)
    assert {keras.backend.standardize_dtype(x.dtype) for x in model.output.values()} == {"float32"}
    _compile(model, keras.optimizers.Adam(1e-4))  # at 1e-3 the first step goes too far for YOLO
    losses = [model.train_on_batch(images, targets, return_dict=True)]
    for _ in range(11):  # the first steps may be left out: Keras halves the loss's scale until no gradient overflows
        losses.append(model.train_on_batch(images, targets, return_dict=True))
        if losses[-1]["loss"] < losses[0]["loss"]:
            break
    assert losses[-1]["loss"] < losses[0]["loss"]
    np.testing.assert_allclose(losses[0]["loss"], sum(losses[0][name] for name in model.loss_names), rtol=1e-3)


def _images_without_objects_leave_finite_weights(model, images, targets):
    _compile(model, keras.optimizers.SGD(1e-3))
    for empty in (
        {**targets, "labels": np.full_like(targets["labels"], -1)},
        {"boxes": np.zeros((2, 0, 4), "float32"), "labels": np.zeros((2, 0), "int32")},
    ):
        logs = model.train_on_batch(images, empty, return_dict=True)
        assert np.isfinite(logs["loss"])
        assert logs["box_loss"] == 0
    assert all(np.isfinite(w).all() for w in model.get_weights())


def _a_saved_model_detects_the_same_and_goes_on_training(model, images, targets, folder):
    _compile(model, keras.optimizers.Adam(1e-3))
    model.train_on_batch(images, targets)
    before = model.detect(images)
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    for key, value in loaded.detect(images).items():
        np.testing.assert_array_equal(value, before[key])
    assert loaded.get_config() == model.get_config()
    assert int(loaded.optimizer.iterations) == 1
    loaded.train_on_batch(images, targets)


def _detect_takes_any_dtype_size_and_count(model, images):
    pixels = images.astype("uint8")
    as_bytes, as_floats = model.detect(pixels), model.detect(pixels.astype("float64"))
    np.testing.assert_array_equal(as_bytes["boxes"], as_floats["boxes"])
    doubled = model.detect(pixels.repeat(2, axis=1).repeat(2, axis=2))
    assert doubled["boxes"].shape == as_bytes["boxes"].shape
    assert doubled["boxes"][..., 2].max() <= 2 * images.shape[2]
    none = model.detect(pixels[:0])
    assert none["boxes"].shape == (0, *as_bytes["boxes"].shape[1:])


@pytest.fixture(scope="session")
def overfit() -> Callable:
    """Returns a function: trains a model on a few images and returns the mAP@0.5 on them."""

    def run(model, images, targets, epochs: int, rate: float) -> float:
        _compile(model, keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, epochs)))
        model.fit(images, targets, batch_size=len(images), epochs=epochs, verbose=0)
        metric = kzoo.metrics.MeanAveragePrecision(protocol="coco")
        metric.update_state(targets, model.detect(images))
        return metric.result()["mAP@0.50"]

    return run

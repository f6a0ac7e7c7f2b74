"""A tiny SSD that learned, within seconds, to find red and blue rectangles; and its files, each written once."""

import keras
import numpy as np
import pytest

from kzoo import export, models

SIZE = (64, 96)


def scenes(count: int, seed: int):
    """Noise images (B, 64, 96, 3) with a rectangle in each half: red is class 0, blue class 1."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 60, (count, *SIZE, 3)).astype("float32")
    boxes, labels = np.zeros((count, 2, 4), "float32"), rng.integers(0, 2, (count, 2)).astype("int32")
    for image, image_boxes, image_labels in zip(images, boxes, labels, strict=True):
        for half in range(2):
            h, w = rng.integers(14, 30, 2)
            x, y = rng.integers(0, 48 - w) + 48 * half, rng.integers(0, 64 - h)
            image[y : y + h, x : x + w] = [(230, 60, 40), (40, 60, 230)][image_labels[half]]
            image_boxes[half] = x, y, x + w, y + h
    return images, {"boxes": boxes, "labels": labels}


@pytest.fixture(scope="session")
def model():
    keras.utils.set_random_seed(0)
    model = models.create(
        "ssd", 2, backbone="tiny", width=0.5, image_size=SIZE, first_level=3, levels=3, class_names=["red", "blå"]
    )
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(*scenes(256, seed=0), batch_size=16, epochs=8, verbose=0)
    return model


@pytest.fixture(scope="session")
def data():
    """Two batches, of 20 and 12 images that the model has not seen."""
    images, targets = scenes(32, seed=1)
    return [(images[part], {k: v[part] for k, v in targets.items()}) for part in (slice(20), slice(20, None))]


@pytest.fixture(scope="session")
def litert_file(model, data, tmp_path_factory):
    """A function: quantization -> the model's .tflite file."""
    written = {}

    def file(quantization=None):
        if quantization not in written:
            path = tmp_path_factory.mktemp("litert") / f"{quantization or 'float32'}.tflite"
            written[quantization] = export.litert(model, path, quantization, calibration=data, samples=24)
        return written[quantization]

    return file


@pytest.fixture(scope="session")
def saved_model_folder(model, tmp_path_factory):
    return export.saved_model(model, tmp_path_factory.mktemp("saved_model") / "model")

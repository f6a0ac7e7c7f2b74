"""RetinaNet, YOLO and the localizer as LiteRT files and SavedModels: what Keras finds, with the suppression inside."""

import keras
import numpy as np
import pytest

from kzoo import export, models

SIZE = (64, 96)
MODELS = {
    "retinanet": {"backbone": "tiny", "width": 0.5, "channels": 16, "score_threshold": 0.2},
    "yolo": {"backbone": "tiny", "width": 0.5, "grid": (4, 6)},
    "fast_yolo": {"width": 0.1, "grid": (3, 4)},
    "localizer": {"backbone": "tiny", "width": 0.5},
}


@pytest.mark.parametrize("name", MODELS)
def test_the_file_finds_what_keras_finds(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = models.create(name, 3, image_size=SIZE, class_names=["a", "b", "c"], **MODELS[name])
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:  # an untrained network says nearly the same everywhere
        if weight.name == "kernel":
            fan_in = np.prod(weight.shape[:-1])
            weight.assign(rng.normal(0, (2 / fan_in) ** 0.5, weight.shape))
    images = rng.uniform(0, 255, (2, *SIZE, 3)).astype("float32")
    expected = model.detect(images)
    file = export.litert(model, tmp_path / f"{name}.tflite")
    found = export.load(file).detect(images)
    assert expected["num_detections"].min() >= (1 if name == "localizer" else 5)
    np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=2e-3)
    served = export.load(export.saved_model(model, tmp_path / "saved")).detect(images)
    for key, value in served.items():
        np.testing.assert_allclose(value, expected[key], atol=1e-3)
    operators = export.operators(file)
    assert operators.get("NON_MAX_SUPPRESSION_V4", 0) == (0 if name == "localizer" else 1)

"""Quantized files for MediaPipe, of networks so large that their weights lie behind the file's tables."""

import keras
import numpy as np
import pytest

from kzoo import export, models
from kzoo.export import flatbuffer


@pytest.fixture(scope="module")
def segmenter():
    keras.utils.set_random_seed(0)
    return models.UNet(2, 64, "same", width=0.5, depth=2, class_names=["ground", "cell"])


@pytest.mark.parametrize("quantization", ["float16", "dynamic", "int8"])
def test_a_quantized_file_labels_as_its_model(segmenter, tmp_path, quantization):
    images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
    masks = segmenter.segment(images)["labels"]
    assert 0.02 < masks.mean() < 0.98
    path = tmp_path / "model.tflite"
    export.litert(segmenter, path, quantization, calibration=[(images, masks)], form="mediapipe")
    assert path.stat().st_size > 1 << 18
    result = export.verify(path, segmenter, [(images, masks)])
    assert result["label_agreement"] > 0.95
    assert b"TFLITE_METADATA" in path.read_bytes()
    assert flatbuffer.operators(path.read_bytes())

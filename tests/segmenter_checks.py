"""What every segmenter must do: train under each precision, be saved whole, segment any size, run as LiteRT."""

import json

import keras
import numpy as np
import pytest

import kzoo


def pictures(count, size, seed=0):
    """Images with a red and a blue rectangle on grey noise, their masks (0, 1, 2), and a strip of void."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(100, 130, (count, *size, 3)).astype("float32")
    masks = np.zeros((count, *size), "int32")
    for i in range(count):
        for label, colour in ((1, [255, 60, 0]), (2, [0, 60, 255])):
            h, w = rng.integers(size[0] // 4, size[0] // 2), rng.integers(size[1] // 4, size[1] // 2)
            y, x = rng.integers(0, size[0] - h), rng.integers(0, size[1] - w)
            images[i, y : y + h, x : x + w], masks[i, y : y + h, x : x + w] = colour, label
    masks[:, :, -1] = 255
    return images, masks


def trains_under_mixed_precision(make, size, steps=4, rate=1e-3, policies=("mixed_float16", "mixed_bfloat16")):
    for policy in policies:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            keras.utils.set_random_seed(1)
            model = make()
        finally:
            keras.config.set_dtype_policy(before)
        assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
        model.compile(keras.optimizers.Adam(rate))
        images, masks = pictures(2, size)
        losses = [model.train_on_batch(images, masks, return_dict=True)["loss"] for _ in range(steps)]
        assert np.isfinite(losses).all()
        assert losses[-1] < losses[0], (policy, losses)


def overfits(make, size, epochs, rate=3e-3, reach=0.95):
    keras.utils.set_random_seed(0)
    images, masks = pictures(4, size)
    model = make()
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, epochs), clipnorm=1.0))
    model.fit(images, masks, batch_size=4, epochs=epochs, verbose=0)
    metric = kzoo.metrics.MeanIoU(3)
    metric.update_state(masks, model.segment(images))
    result = metric.result()
    assert result["mIoU"] >= reach, result
    return model


def is_saved_whole_and_segments_the_same(model, folder):
    images, masks = pictures(2, model.image_size, seed=1)
    model.compile(keras.optimizers.SGD(1e-4))
    model.train_on_batch(images, masks)
    before = model.segment(images)
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    assert type(loaded) is type(model)
    # As JSON, where tuples are lists, as they come back from a file.
    assert json.loads(json.dumps(loaded.get_config())) == json.loads(json.dumps(model.get_config()))
    assert int(loaded.optimizer.iterations) == 1
    for key, value in loaded.segment(images).items():
        np.testing.assert_array_equal(value, before[key])


def segments_any_size_and_dtype(model):
    height, width = model.image_size
    images = np.random.default_rng(2).integers(0, 256, (2, height + 5, width // 2, 3)).astype("uint8")
    found, same = model.segment(images), model.segment(images.astype("float64"))
    assert found["labels"].shape == found["scores"].shape == images.shape[:3]
    assert found["labels"].dtype == np.int32
    assert 0 <= found["labels"].min() <= found["labels"].max() < model.num_classes
    assert found["scores"].min() >= 1 / model.num_classes - 1e-6
    assert found["scores"].max() <= 1 + 1e-6
    np.testing.assert_array_equal(found["labels"], same["labels"])
    assert model.segment(images[:0])["labels"].shape == (0, *images.shape[1:3])
    assert model.segment(images[:1, :1, :1])["labels"].shape == (1, 1, 1)


def is_verified_in_every_format(model, folder):
    """SavedModel and .keras label the same; `verify` says so, and by how much."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("export needs TensorFlow")
    height, width = model.image_size
    images, masks = pictures(2, (height + 7, width - 3), seed=4)
    model.save(folder / "model.keras")
    for path in (kzoo.export.saved_model(model, folder / "saved"), folder / "model.keras"):
        result = kzoo.export.verify(path, model, (images, masks))
        assert result["images"] == 2
        assert result["label_agreement"] > 0.999
        assert result["max_score_error"] < 1e-4
        assert abs(result["mIoU_keras"] - result["mIoU_exported"]) < 0.01
        assert "% of the pixels agree" in kzoo.export.format_verification(result)
    file = kzoo.export.load(folder / "saved")
    assert file.class_names == model.class_names
    assert file.metadata["task"] == "segmentation"
    (row,) = kzoo.export.benchmark([folder / "saved"], (images, masks), runs=1, warmup=0)
    assert row["ms"] > 0
    assert row["mIoU"] == result["mIoU_keras"] or abs(row["mIoU"] - result["mIoU_keras"]) < 0.01


def runs_as_litert(model, folder):
    """Float file: builtin operators only (`litert` refuses others), the same labels, the same scores to float error."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT needs TensorFlow")
    path = kzoo.export.litert(model, folder / "model.tflite")
    height, width = model.image_size
    images, _ = pictures(1, (height + 9, width - 5), seed=3)  # in tiles, or resized
    expected, found = model.segment(images), kzoo.export.load(path).segment(images)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=2e-5)
    sure = expected["scores"] > 0.5001  # below it, which of two nearly equal logits is larger may differ
    np.testing.assert_array_equal(found["labels"][sure], expected["labels"][sure])
    assert (found["labels"] == expected["labels"]).mean() > 0.999


def agrees_in_int8(model, folder):
    """A trained model's int8 file: builtin operators, nearly the same labels, and `verify` with the scores of both."""
    images, masks = pictures(4, model.image_size)
    path = kzoo.export.litert(model, folder / "int8.tflite", quantization="int8", calibration=images)
    result = kzoo.export.verify(path, model, (images, masks))
    assert result["quantization"] == "int8"
    assert result["label_agreement"] > 0.97
    assert abs(result["mIoU_keras"] - result["mIoU_exported"]) < 0.05


def randomise(model, scale=0.05):
    """Gives all trainable weights that start at zero a value, so that outputs differ from pixel to pixel."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        value = keras.ops.convert_to_numpy(weight)
        if not value.any():
            weight.assign(rng.normal(0, scale, value.shape))

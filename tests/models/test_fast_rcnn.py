"""Fast R-CNN: proposals come with the images."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo.models.fast_rcnn import FastRCNN

SIZE = (64, 96)


def small(backbone="tiny", **kwargs) -> FastRCNN:
    width = 0.125 if backbone == "vgg16" else 0.5
    return FastRCNN(2, SIZE, backbone, width=width, units=64, max_proposals=60, class_names=["red", "blue"], **kwargs)


def proposals_near(targets, count: int = 56, seed: int = 0) -> np.ndarray:
    """Boxes near the ground truth and boxes anywhere, and four rows of padding."""
    rng = np.random.default_rng(seed)
    boxes = targets["boxes"].repeat(count // 4, axis=1)
    boxes = boxes + rng.normal(0, 3, boxes.shape)
    corner = rng.uniform(0, [70, 40], (len(boxes), count // 2, 2))
    anywhere = np.concatenate([corner, corner + rng.uniform(8, 30, corner.shape)], -1)
    return np.concatenate([boxes, anywhere, np.zeros((len(boxes), 4, 4))], 1).astype("float32")


def test_parameters_are_the_papers():
    # By hand: the convolutions of VGG16 at an eighth of its width, fc6 on 7 x 7 x 64, fc7, K + 1 classes, 4 K deltas.
    model = FastRCNN(3, SIZE, width=0.125)
    outputs = [round(c * 0.125) for c in (64, 64, 128, 128, *[256] * 3, *[512] * 6)]
    trunk = sum(9 * i * o + o for i, o in zip([3, *outputs], outputs, strict=False))
    assert model.count_params() == trunk + (49 * 64 + 1) * 512 + 513 * 512 + 513 * (4 + 12)


def test_learns_to_name_and_move_proposals(rectangles, tmp_path):
    keras.utils.set_random_seed(0)
    images, targets = rectangles(count=6, size=SIZE)
    proposals = proposals_near(targets)
    model = small()
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, 60)))
    model.fit(images, {**targets, "proposals": proposals}, batch_size=6, epochs=60, verbose=0)
    metric = kzoo.metrics.MeanAveragePrecision(protocol="coco")
    found = model.detect(images, proposals)
    metric.update_state(targets, found)
    assert metric.result()["mAP@0.50"] >= 0.95

    model.save(tmp_path / "fast.keras")
    loaded = keras.models.load_model(tmp_path / "fast.keras")
    assert loaded.get_config() == model.get_config()
    for key, value in loaded.detect(images, proposals).items():
        np.testing.assert_array_equal(value, found[key])
    doubled = images.repeat(2, axis=1).repeat(2, axis=2)
    found_in_doubled = model.detect(doubled, 2 * proposals)
    np.testing.assert_array_equal(found_in_doubled["num_detections"] > 0, True)
    assert found_in_doubled["boxes"].max() > 100


def test_images_without_objects_or_proposals_leave_finite_weights(rectangles):
    images, targets = rectangles(count=2, size=SIZE)
    model = small("vgg16")
    model.compile(keras.optimizers.SGD(1e-3))
    empty = {"boxes": np.zeros((2, 0, 4), "float32"), "labels": np.zeros((2, 0), "int32")}
    for objects in (empty, targets):
        for proposals in (proposals_near(targets), np.zeros((2, 3, 4), "float32")):
            logs = model.train_on_batch(images, {**objects, "proposals": proposals}, return_dict=True)
            assert np.isfinite(logs["loss"])
    assert all(np.isfinite(w).all() for w in model.get_weights())
    none = model.detect(images, np.zeros((2, 0, 4)))
    np.testing.assert_array_equal(none["num_detections"], [0, 0])
    assert model.detect(images[:0], np.zeros((0, 5, 4)))["boxes"].shape == (0, 100, 4)
    with pytest.raises(ValueError, match=r"proposals must be \(2, P, 4\)"):
        model.detect(images, np.zeros((1, 5, 4)))


def test_padding_costs_little_and_changes_nothing(rectangles):
    images, targets = rectangles(count=2, size=SIZE)
    model = FastRCNN(2, SIZE, "tiny", width=0.5, units=16, max_proposals=600)
    near = proposals_near(targets)  # four of sixty without area
    proposals = np.concatenate([near[:, -8:], near, np.zeros((2, 500, 4), "float32")], axis=1)
    found = model.detect(images, proposals)
    assert list(model._graphs) == [256]
    regions = np.pad(proposals, ((0, 0), (0, 600 - proposals.shape[1]), (0, 0)))
    whole = model.inference_model().predict_on_batch({"image": images.astype("float32"), "proposals": regions})
    for key, value in found.items():
        np.testing.assert_allclose(value, np.asarray(whole[key]), rtol=1e-5, atol=1e-4, err_msg=key)
    assert found["num_detections"].min() > 0
    model.detect(images, np.repeat(near, 10, axis=1))
    assert list(model._graphs) == [256, 600]  # 560 are not padded beyond max_proposals


def test_without_proposals_it_searches_for_them(rectangles, monkeypatch, tmp_path):
    images, targets = rectangles(2)
    proposals = proposals_near(targets)
    asked = []

    def search(images, count):
        asked.append((images, count))
        return proposals[: len(images)]

    monkeypatch.setattr("kzoo.models.fast_rcnn.search_batch", search)
    model = small()
    for key, value in model.infer(images).items():
        np.testing.assert_array_equal(value, model.detect(images, proposals)[key])
    assert asked[0][1] == model.max_proposals

    model.save(tmp_path / "fast.keras")
    found = model.detect(images, proposals)
    for opened in (kzoo.models.load(tmp_path / "fast.keras"), kzoo.export.load(tmp_path / "fast.keras")):
        assert opened.class_names == ["red", "blue"]
        for key, value in opened.detect(images).items():
            np.testing.assert_array_equal(value, found[key])


def test_mixed_precision_takes_a_step(rectangles):
    images, targets = rectangles(count=2, size=SIZE)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.Adam(1e-3))
    logs = model.train_on_batch(images, {**targets, "proposals": proposals_near(targets)}, return_dict=True)
    assert np.isfinite(logs["loss"])
    assert model.detect(images, proposals_near(targets))["boxes"].dtype == np.float32


def test_training_without_proposals_says_what_to_do(rectangles, tmp_path):
    tf = pytest.importorskip("tensorflow")
    import kzoo.training

    data = tf.data.Dataset.from_tensor_slices(rectangles(count=2, size=SIZE)).batch(2)
    with pytest.raises(ValueError, match=r"trains on proposals, and the data has none: load it by"):
        kzoo.training.train(small(), data, quiet=True, run_dir=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()

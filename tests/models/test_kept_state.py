"""What a network keeps besides its weights: what is frozen, thresholds, how it is compiled, and what its logs say."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo import models

IMAGES = np.random.default_rng(0).uniform(0, 255, (5, 64, 64, 3)).astype("float32")
TARGETS = {"boxes": np.tile(np.float32([[8, 8, 40, 40]]), (5, 1, 1)), "labels": np.array([[0]] * 5, "int32")}


def ssd(**arguments):
    return models.create("ssd", 3, image_size=64, backbone="tiny", width=0.25, levels=2, **arguments)


def test_frozen_layers_stay_frozen_and_the_optimizer_goes_on(tmp_path):
    model = ssd()
    assert "trainable_layers" not in model.get_config()
    model.get_layer("tiny_backbone").trainable = False
    model.compile("adam")
    model.fit(IMAGES, TARGETS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    assert [w.path for w in loaded.trainable_weights] == [w.path for w in model.trainable_weights]
    assert int(loaded.optimizer.iterations) == 1
    loaded.get_layer("tiny_backbone").trainable = True
    assert "trainable_layers" not in loaded.get_config()


def test_a_layer_within_a_frozen_part_may_be_free():
    model = ssd()
    backbone = model.get_layer("tiny_backbone")
    backbone.trainable = False
    free = next(layer for layer in reversed(backbone.layers) if layer.weights)
    free.trainable = True
    again = type(model).from_config(model.get_config())
    before, after = ([layer.trainable for layer in one._flatten_layers()] for one in (model, again))
    assert before == after
    assert again.get_layer(backbone.name).get_layer(free.name).trainable


def test_thresholds_set_later_hold_everywhere(tmp_path):
    model = ssd(score_threshold=0.0)
    scores = model.detect(IMAGES)["scores"]
    middle = float(np.median(scores))
    model.set_thresholds(score_threshold=middle, max_detections=7)
    found = model.detect(IMAGES)
    assert found["boxes"].shape == (5, 7, 4)
    np.testing.assert_array_equal(found["num_detections"], np.minimum((scores > middle).sum(axis=1), 7))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(models.load(tmp_path / "model.keras").detect(IMAGES)["scores"], found["scores"])
    with pytest.raises(ValueError, match="iou_threshold must lie in"):
        model.set_thresholds(iou_threshold=2)
    np.testing.assert_array_equal(model.detect(IMAGES)["scores"], found["scores"])


def test_a_localizer_has_no_suppression_to_set():
    model = models.create("localizer", 3, image_size=64, backbone="tiny", width=0.25)
    with pytest.raises(ValueError, match="Unknown threshold of localizer 'iou_threshold'"):
        model.set_thresholds(iou_threshold=0.3)
    model.set_thresholds(score_threshold=0.9999)
    assert model.detect(IMAGES)["num_detections"].max() == 0


def test_xla_is_chosen_anew_where_the_model_is_loaded():
    model = ssd()
    model.compile("adam")
    assert model.get_compile_config()["jit_compile"] == "auto"
    model.compile("adam", jit_compile=False)
    assert model.get_compile_config()["jit_compile"] is False


def test_a_policy_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"global policy: call .*set_dtype_policy\('mixed_bfloat16'\) before"):
        models.SSD(3, 64, backbone="tiny", width=0.25, dtype="mixed_bfloat16")


def test_a_size_may_be_a_number_of_numpy():
    assert models.UNet(2, np.int64(64), "same", width=0.05, depth=1).image_size == (64, 64)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="uses tf.data")
def test_the_parts_of_the_loss_add_up_for_odd_batches_and_data_of_unknown_size():
    import tensorflow as tf

    model = ssd()
    model.compile("sgd")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, TARGETS)).filter(lambda *_: True).batch(2)
    of_set = model.evaluate(data, verbose=0, return_dict=True)
    of_arrays = model.evaluate(IMAGES, TARGETS, batch_size=2, verbose=0, return_dict=True)
    for logs in (of_set, of_arrays):
        assert logs["class_loss"] + logs["box_loss"] == pytest.approx(logs["loss"], rel=1e-5)
    assert of_set == pytest.approx(of_arrays, rel=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="uses tf.distribute")
def test_detections_are_the_same_within_a_strategys_scope():
    import tensorflow as tf

    detector, segmenter = ssd(), models.UNet(3, 64, "same", width=0.05, depth=1)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        within = detector.detect(IMAGES), segmenter.segment(IMAGES)
    outside = detector.detect(IMAGES), segmenter.segment(IMAGES)
    for a, b in zip(within, outside, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA is asked through TensorFlow")
@pytest.mark.parametrize(
    "name",
    ["retinanet", *(pytest.param(n, marks=pytest.mark.slow) for n in ("faster_rcnn", "ssd", "yolo", "localizer"))],
)
def test_a_detector_trains_and_detects_under_xla_as_without(name):
    few = {key: value[:2] for key, value in TARGETS.items()}
    own = {"dropout": 0.0} if name == "localizer" else {}  # XLA draws other numbers
    losses, found = [], []
    for jit_compile in (True, False):
        keras.utils.set_random_seed(0)
        model = models.create(name, 3, image_size=64, backbone="tiny", width=0.25, **own)
        graph = model.inference_model()
        graph.compile(jit_compile=jit_compile)
        found.append(graph.predict_on_batch(IMAGES[:2]))
        model.compile("sgd", jit_compile=jit_compile)
        losses.append(model.train_on_batch(IMAGES[:2], few, return_dict=True)["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)
    np.testing.assert_array_equal(found[0]["num_detections"], found[1]["num_detections"])


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA is asked through TensorFlow")
@pytest.mark.parametrize("name", ["fcn8s", "deconvnet", "unet"])
def test_a_segmenter_trains_under_xla_as_without(name):
    own = {"fcn8s": {"backbone": "tiny"}, "unet": {"padding": "same", "dropout": 0.0, "depth": 2}}.get(name, {})
    masks = (np.arange(64) // 22)[None, None] * np.ones((2, 64, 1), "int32")
    losses = []
    for jit_compile in (True, False):
        keras.utils.set_random_seed(0)
        model = models.create(name, 3, image_size=64, width=0.1, **own)
        model.compile("sgd", jit_compile=jit_compile)
        losses.append(model.train_on_batch(IMAGES[:2], masks, return_dict=True)["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_what_a_file_holds_that_keras_does_not_know_is_named(tmp_path):
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    def with_backbone(layer):
        images = keras.Input((64, 64, 3))
        c3 = keras.layers.Conv2D(4, 3, 8, "same")(layer(images))
        c4 = keras.layers.Conv2D(4, 3, 2, "same")(c3)
        body = keras.Model(images, {"C4": c4, "C3": c3}, name="own")
        return models.create("ssd", 3, image_size=64, backbone=body, levels=2)

    with_backbone(Doubled()).save(tmp_path / "own.keras")
    with pytest.raises(
        ValueError, match=r"own.keras: holds a Doubled, which Keras does not know. Give custom_objects="
    ):
        models.load(tmp_path / "own.keras")
    assert models.load(tmp_path / "own.keras", custom_objects={"Doubled": Doubled}).num_classes == 3
    with_backbone(keras.layers.Lambda(lambda x: 2 * x)).save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match=r"holds Python code \(a Lambda layer\).*safe_mode=False"):
        models.load(tmp_path / "code.keras")


def test_a_backbone_may_name_its_maps_in_any_order():
    images = keras.Input((64, 64, 3))
    c3 = keras.layers.Conv2D(4, 3, 8, "same")(images)
    c4 = keras.layers.Conv2D(4, 3, 2, "same")(c3)
    body = keras.Model(images, {"C4": c4, "C3": c3})
    assert list(kzoo.backbones.create(body, (64, 64)).output) == ["C3", "C4"]

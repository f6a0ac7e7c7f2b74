"""SSD: the paper's counts, its loss as a plain loop, and one training step."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo import boxes as box_ops
from kzoo.models import SSD, SSD300, SSD512


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    return SSD(3, image_size=(64, 96), backbone="tiny", width=0.5, class_names=["a", "b", "c"], score_threshold=0.1)


def batch(rng, count=2, size=(64, 96), boxes=3, classes=3):
    height, width = size
    corner = rng.uniform(0, 0.6, (count, boxes, 2)) * [width, height]
    xyxy = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (count, boxes, 2)) * [width, height]], -1)
    labels = rng.integers(0, classes, (count, boxes))
    xyxy[:, -1], labels[:, -1] = 0, -1  # padding
    images = rng.uniform(0, 255, (count, height, width, 3)).astype("float32")
    return images, {"boxes": xyxy.astype("float32"), "labels": labels.astype("int32")}


def test_ssd300_is_the_papers_network():
    # Figure 2: 38^2 4 + 19^2 6 + 10^2 6 + 5^2 6 + 3^2 4 + 4 = 8732 default boxes.
    model = SSD300(num_classes=20)
    assert model.anchors.shape == (8732, 4)
    assert model.output["classes"].shape == (None, 8732, 21)
    assert model.output["boxes"].shape == (None, 8732, 4)
    # By hand: VGG16's convolutions, fc6 and fc7, the extra layers, (c + 4) k filters a map, conv4_3's 512 scales.
    vgg = 14_714_688
    fc = 3 * 3 * 512 * 1024 + 1024 + 1024 * 1024 + 1024
    extra = [(1024, 256, 1), (256, 512, 3), (512, 128, 1), (128, 256, 3), (256, 128, 1), (128, 256, 3), (256, 128, 1)]
    extra = sum(k * k * i * o + o for i, o, k in [*extra, (128, 256, 3)])
    heads = [(512, 4), (1024, 6), (512, 6), (256, 6), (256, 4), (256, 4)]
    heads = sum((9 * c + 1) * 25 * k for c, k in heads)
    assert model.count_params() == vgg + fc + extra + heads + 512


def test_ssd512_has_the_papers_default_boxes():
    # Section 3.2: seven maps, 64^2 4 + 32^2 6 + 16^2 6 + 8^2 6 + 4^2 6 + 2^2 4 + 4 = 24564.
    model = SSD512(num_classes=20, width=0.1)
    assert model.anchors.shape == (24564, 4)
    centers = (model.anchors[-28:, 0] + model.anchors[-28:, 2]) / 2  # 2^2 6 + 4: all but the last two maps halve
    np.testing.assert_allclose(centers[-4:], 256)
    halving = model.get_layer("conv11_2")  # 4 -> 2 (code)
    assert (halving.strides, halving.kernel_size, halving.padding) == ((2, 2), (3, 3), "valid")
    assert model.get_layer("conv11_pad").output.shape[1:3] == (6, 6)


def test_default_boxes_follow_the_papers_scales():
    anchors = SSD300(num_classes=1, width=0.05).anchors
    square = anchors[:, 2] - anchors[:, 0]
    np.testing.assert_allclose(square[0], 0.1 * 300, rtol=1e-5)  # conv4_3
    np.testing.assert_allclose(square[38 * 38 * 4], 0.2 * 300, rtol=1e-5)  # s_min
    np.testing.assert_allclose(square[-4], 0.9 * 300, rtol=1e-5)  # s_max
    np.testing.assert_allclose(anchors[-4], [15, 15, 285, 285], rtol=1e-5)  # centred on the one cell
    # The centres along the first row of each map: (i + .5) / |f_k|, with the code's steps 8, 16, 32, 64, 100 and 300.
    centers, start = (anchors[:, 0] + anchors[:, 2]) / 2, 0
    for cells, boxes, step in ((38, 4, 8), (19, 6, 16), (10, 6, 32), (5, 6, 64), (3, 4, 100), (1, 4, 300)):
        row = centers[start : start + cells * boxes : boxes]
        np.testing.assert_allclose(row, (np.arange(cells) + 0.5) * step)
        start += cells * cells * boxes


@pytest.mark.parametrize("backbone", ["mobilenet", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"])
def test_mobilenets_get_depthwise_separable_heads(backbone):
    model = SSD(2, image_size=(96, 128), backbone=backbone, width=1.0 if "v3" in backbone else 0.35)
    names = [layer.name for layer in model.layers]
    assert "level1_classes_depthwise" in names
    assert model.output["boxes"].shape[1] == len(model.anchors)


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (300, 200), 129])
def test_any_image_size_gives_as_many_outputs_as_default_boxes(size):
    model = SSD(1, image_size=size, backbone="tiny", width=0.25)
    assert model.output["boxes"].shape[1] == len(model.anchors)
    found = model.detect(np.zeros((1, *model.image_size, 3), "uint8"))
    assert np.isfinite(found["boxes"]).all()


def test_more_levels_than_halvings_are_refused():
    assert SSD(1, image_size=64, backbone="tiny", width=0.25, levels=4).output["boxes"].shape[1] > 0
    for levels in (5, 99, -1, 1.5):
        with pytest.raises(ValueError, match="levels must be 1 to 4"):
            SSD(1, image_size=64, backbone="tiny", width=0.25, levels=levels)


def test_each_of_several_devices_has_its_share_of_the_loss(small, monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    import tensorflow as tf

    images, targets = batch(np.random.default_rng(1))
    raw = small(images)
    alone = float(small.compute_loss(images, targets, raw))
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: type("Two", (), {"num_replicas_in_sync": 2}))
    assert float(small.compute_loss(images, targets, raw)) == pytest.approx(alone / 2)


def test_the_loss_equals_the_papers_formula_as_a_loop(small):
    _, targets = batch(np.random.default_rng(1))
    anchors = small.anchors.astype("float64")
    rng = np.random.default_rng(2)
    logits, deltas = rng.normal(size=(2, len(anchors), 4)), rng.normal(size=(2, len(anchors), 4))
    conf, loc, count = 0.0, 0.0, 0
    for b in range(2):
        valid = targets["labels"][b] >= 0
        boxes, labels = targets["boxes"][b][valid].astype("float64"), targets["labels"][b][valid]
        # In float32: a box inside two default boxes of one size ties, and rounding decides.
        overlap = box_ops.iou(targets["boxes"][b][valid], small.anchors)
        match = np.where(overlap.max(0) > 0.5, overlap.argmax(0), -1)
        left = overlap.copy()
        for _ in boxes:  # section 2.2: each ground truth first takes its best default box
            g, a = np.unravel_index(left.argmax(), left.shape)
            match[a] = g
            left[g], left[:, a] = -1, -1
        loss = (
            np.log(np.exp(logits[b]).sum(-1))
            - logits[b][np.arange(len(anchors)), np.where(match >= 0, labels[match] + 1, 0)]
        )
        positive = np.flatnonzero(match >= 0)
        negative = sorted(np.flatnonzero(match < 0), key=lambda i: -loss[i])[: 3 * len(positive)]
        conf += loss[positive].sum() + loss[negative].sum()
        for a in positive:
            target = box_ops.encode(boxes[match[a]], anchors[a], (0.1, 0.1, 0.2, 0.2))
            d = np.abs(target - deltas[b, a])
            loc += np.where(d < 1, 0.5 * d**2, d - 0.5).sum()
        count += len(positive)
    raw = {"classes": logits.astype("float32"), "boxes": deltas.astype("float32")}
    parts = small.raw_losses({k: keras.ops.convert_to_tensor(v) for k, v in targets.items()}, raw)
    np.testing.assert_allclose(float(parts["class_loss"]), conf / count, rtol=1e-4)
    np.testing.assert_allclose(float(parts["box_loss"]), loc / count, rtol=1e-4)


def test_images_without_objects_give_a_loss_of_zero_and_a_finite_step():
    images, targets = batch(np.random.default_rng(3))
    targets["labels"][:] = -1
    model = SSD(3, (64, 96), "tiny", width=0.5)
    model.compile("sgd")
    logs = model.train_on_batch(images, targets, return_dict=True)
    assert logs["loss"] == 0
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_one_training_step_lowers_the_loss_under_each_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(1)
        model = SSD(3, (64, 96), "tiny", width=0.5)
    finally:
        keras.config.set_dtype_policy(before)
    assert {keras.backend.standardize_dtype(x.dtype) for x in model.output.values()} == {"float32"}
    model.compile(keras.optimizers.SGD(1e-3))
    images, targets = batch(np.random.default_rng(4))
    losses = [model.train_on_batch(images, targets, return_dict=True)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    assert {"class_loss", "box_loss", "loss"} <= set(model.evaluate(images, targets, verbose=0, return_dict=True))


def test_a_saved_model_detects_the_same_and_goes_on_training(small, tmp_path):
    images, targets = batch(np.random.default_rng(5))
    small.compile(keras.optimizers.Adam(1e-3))
    small.train_on_batch(images, targets)
    before = small.detect(images)
    small.save(tmp_path / "ssd.keras")
    loaded = kzoo.models.load(tmp_path / "ssd.keras")
    for key, value in loaded.detect(images).items():
        np.testing.assert_array_equal(value, before[key])
    assert loaded.class_names == ["a", "b", "c"]
    assert int(loaded.optimizer.iterations) == 1
    assert loaded.get_config() == small.get_config()


def test_loading_anything_else_names_the_fault(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        kzoo.models.load(tmp_path / "missing.keras")
    x = keras.Input((2,))
    keras.Model(x, keras.layers.Dense(1)(x)).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="is no model of kzoo"):
        kzoo.models.load(tmp_path / "other.keras")


def test_a_model_with_a_backbone_of_ones_own_is_saved_whole(tmp_path):
    image = keras.Input((64, 64, 3))
    c3 = keras.layers.Conv2D(8, 3, 8, padding="same")(image)
    own = keras.Model(image, {"C3": c3, "C4": keras.layers.Conv2D(8, 3, 2, padding="same")(c3)}, name="own")
    model = SSD(2, 64, own, first_level=3)
    model.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras")
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    np.testing.assert_array_equal(loaded.detect(images)["scores"], model.detect(images)["scores"])


def test_detect_takes_any_dtype_and_size_and_gives_boxes_of_the_given_images(small):
    images = np.random.default_rng(6).integers(0, 256, (2, 64, 96, 3)).astype("uint8")
    as_bytes, as_floats = small.detect(images), small.detect(images.astype("float64"))
    np.testing.assert_array_equal(as_bytes["boxes"], as_floats["boxes"])
    doubled = small.detect(images.repeat(2, axis=1).repeat(2, axis=2))
    assert doubled["boxes"].max() > 96 or doubled["num_detections"].sum() == 0
    assert doubled["boxes"][..., 2].max() <= 192
    with pytest.raises(ValueError, match=r"\(B, H, W, 3\)"):
        small.detect(images[0])


def test_no_images_give_no_detections(small):
    found = small.detect(np.zeros((0, 64, 96, 3), "uint8"))
    assert found["boxes"].shape == (0, 200, 4)
    assert found["num_detections"].shape == (0,)


def coloured_rectangles(rng, size, sides, count=8):
    """Grey pictures with one or two rectangles, orange ones of class 0 and blue ones of class 1."""
    height, width = size
    images = rng.uniform(100, 130, (count, height, width, 3)).astype("float32")
    boxes, labels = np.zeros((count, 2, 4), "float32"), np.full((count, 2), -1, "int32")
    for i in range(count):
        for j in range(1 + i % 2):
            w, h = rng.integers(*sides, 2)
            x, y = width // 2 * j + rng.integers(0, width // 2 - w), rng.integers(0, height - h)
            label = rng.integers(0, 2)
            images[i, y : y + h, x : x + w] = [[255, 60, 0], [0, 60, 255]][label]
            boxes[i, j], labels[i, j] = [x, y, x + w, y + h], label
    return images, {"boxes": boxes, "labels": labels}


def test_tiny_ssd_overfits_a_handful_of_images():
    images, targets = coloured_rectangles(np.random.default_rng(7), (64, 96), sides=(16, 36))
    keras.utils.set_random_seed(0)
    model = SSD(2, (64, 96), "tiny", first_level=3, width=0.5)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, 150)))
    model.fit(images, targets, batch_size=8, epochs=150, verbose=0)
    metric = kzoo.metrics.MeanAveragePrecision(protocol="coco")
    metric.update_state(targets, model.detect(images))
    assert metric.result()["mAP@0.50"] >= 0.95


def test_create_knows_the_names_and_helps_with_typos():
    assert {"ssd", "ssd300", "ssd512"} <= set(kzoo.models.names())
    model = kzoo.models.create("ssd300", num_classes=3, backbone="mobilenet", weights=None, width=0.25)
    assert model.image_size == (300, 300)
    with pytest.raises(ValueError, match="Did you mean 'ssd300'"):
        kzoo.models.create("ssd301", num_classes=3)
    with pytest.raises(ValueError, match=r"Unknown argument of ssd512 'backbon'\. Did you mean 'backbone'"):
        kzoo.models.create("ssd512", num_classes=3, backbon="tiny")
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        SSD(0)
    with pytest.raises(ValueError, match="class_names has 1 names"):
        SSD(2, 64, "tiny", class_names=["a"])
    with pytest.raises(ValueError, match="scales needs"):
        SSD(2, 64, "tiny", scales=[0.1])


@pytest.mark.slow
def test_pretrained_ssd300_starts_fc6_and_fc7_from_vgg16s_own(monkeypatch):
    published = keras.applications.VGG16(weights=None)  # stands in for the published weights, which are a download
    body = keras.Model(published.input, published.get_layer("block5_pool").output)

    def vgg16(include_top=True, weights=None):
        assert weights == "imagenet"
        return published if include_top else body

    monkeypatch.setattr(keras.applications, "VGG16", vgg16)
    model = SSD300(num_classes=2, weights="imagenet")
    fc1, fc2 = (published.get_layer(name).get_weights()[0] for name in ("fc1", "fc2"))
    fc6, fc7 = (model.get_layer(name).get_weights()[0] for name in ("fc6", "fc7"))
    # Tap (1, 2), input channel 5, output channel 10 of the 3x3 is tap (3, 6), channels 5 and 40 of the 7x7.
    assert fc6[1, 2, 5, 10] == fc1[(3 * 7 + 6) * 512 + 5, 40]
    assert fc7[0, 0, 3, 9] == fc2[12, 36]
    first = next(w for w in model.weights if w.path.endswith("block1_conv1/kernel"))
    np.testing.assert_array_equal(first, published.get_layer("block1_conv1").kernel)


@pytest.mark.slow
def test_paper_ssd300_takes_a_full_size_training_step():
    model = SSD300(num_classes=20)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
    images, targets = batch(np.random.default_rng(8), count=1, size=(300, 300), classes=20)
    first = model.train_on_batch(images, targets, return_dict=True)["loss"]
    assert np.isfinite(first)
    assert model.detect(images)["boxes"].shape == (1, 200, 4)


@pytest.mark.slow
def test_ssd300_in_a_tiny_vgg_width_overfits_eight_images():
    images, targets = coloured_rectangles(np.random.default_rng(9), (300, 300), sides=(50, 140))
    keras.utils.set_random_seed(0)
    model = SSD300(num_classes=2, width=0.125)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 250), clipnorm=5.0))
    model.fit(images, targets, batch_size=8, epochs=250, verbose=0)
    metric = kzoo.metrics.MeanAveragePrecision(protocol="coco")
    metric.update_state(targets, model.detect(images))
    assert metric.result()["mAP@0.50"] >= 0.95

"""Faster R-CNN: the paper's counts, its losses as plain loops, both stages trained, saved and exported."""

import keras
import numpy as np
import pytest

from kzoo import boxes as box_ops
from kzoo import matching
from kzoo.layers import BoxDecoder, NonMaxSuppression
from kzoo.models import region_head
from kzoo.models.faster_rcnn import FasterRCNN

SIZE = (64, 96)


def small(backbone: str = "tiny", **kwargs) -> FasterRCNN:
    return FasterRCNN(
        **{
            "num_classes": 3,
            "image_size": SIZE,
            "backbone": backbone,
            "width": 0.125 if backbone == "vgg16" else 0.5,
            "channels": 32,
            "units": 64,
            "train_proposals": (100, 40),
            "test_proposals": (100, 20),
            "regions_per_image": 32,
            "class_names": ["a", "b", "c"],
            **kwargs,
        }
    )


@pytest.fixture(scope="module")
def paper():
    keras.utils.set_random_seed(0)
    return small("vgg16")


@pytest.fixture(scope="module")
def modern():
    keras.utils.set_random_seed(0)
    return small("tiny")


def outspoken(backbone: str) -> FasterRCNN:
    """An untrained model whose heads differ from cell to cell, so that it finds many things."""
    keras.utils.set_random_seed(0)
    model = small(backbone)
    kernels = [(model.get_layer("rpn_objectness"), 100), (model.get_layer("rpn_deltas"), 5)]
    for layer, factor in [*kernels, (model.head.classes, 100), (model.head.boxes, 100)]:
        layer.kernel.assign(layer.kernel * factor)
    return model


def parameters(vgg: list[tuple[int, int]], classes: int, channels: int, units: int) -> int:
    """By hand: the convolutions, RPN (3x3, 9 and 36 outputs), fc6 on 7x7, fc7, K + 1 classes and 4 K deltas."""
    trunk = sum(9 * i * o + o for i, o in vgg)
    features = vgg[-1][1]
    rpn = 9 * features * channels + channels + (channels + 1) * 9 * (1 + 4)
    head = (49 * features + 1) * units + (units + 1) * units + (units + 1) * (classes + 1 + 4 * classes)
    return trunk + rpn + head


def vgg16_layers(width: float) -> list[tuple[int, int]]:
    outputs = [round(c * width) for c in (64, 64, 128, 128, *[256] * 3, *[512] * 6)]
    return list(zip([3, *outputs], outputs, strict=False))


def test_a_narrow_network_has_the_papers_structure(paper):
    model = FasterRCNN(3, SIZE, width=0.125)
    assert model.count_params() == parameters(vgg16_layers(0.125), 3, 64, 512)
    assert paper.output["C4"].shape[1:3] == (4, 6)
    assert paper.output["objectness"].shape == (None, 4 * 6 * 9)


@pytest.mark.slow
def test_the_full_network_has_the_papers_weights_and_takes_a_step():
    model = FasterRCNN(20, 224)
    assert model.count_params() == parameters(vgg16_layers(1.0), 20, 512, 4096)
    assert model.count_params() == 14_714_688 + 2_359_808 + 512 * 45 + 45 + 102_764_544 + 16_781_312 + 413_797
    model.compile(keras.optimizers.SGD(1e-3))
    targets = {"boxes": np.array([[[20, 30, 150, 180]]], "float32"), "labels": np.array([[7]], "int32")}
    images = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
    assert np.isfinite(model.train_on_batch(images, targets, return_dict=True)["loss"])
    assert model.detect(images)["boxes"].shape == (1, 100, 4)


def test_anchors_of_a_typical_image_are_the_papers():
    # Section 3.3: some 20000 anchors at 1000 x 600, of which some 6000 do not cross the border.
    model = FasterRCNN(1, (600, 1000), width=0.02, units=16)
    assert model.anchors.shape == (38 * 63 * 9, 4)
    assert 5000 < len(model.trained) < 9000
    width, height = (model.anchors[:9, 2:] - model.anchors[:9, :2]).T
    np.testing.assert_allclose(np.sqrt(width * height), np.repeat([128, 256, 512], 3), rtol=1e-5)
    np.testing.assert_allclose(width / height, [0.5, 1, 2] * 3, rtol=1e-5)


def test_the_pyramid_has_one_anchor_size_a_level(modern):
    assert modern.pooled_levels == ["P2", "P3", "P4", "P5"]
    sides = np.sqrt(box_ops.area(modern.anchors))
    np.testing.assert_allclose(np.unique(np.round(sides)), [32, 64, 128, 256, 512])
    assert len(modern.trained) == len(modern.anchors) == 3 * (16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2)


def test_rpn_losses_equal_the_papers_formula_as_a_loop(paper, random_batch):
    _, targets = random_batch(seed=1, size=SIZE)
    # 256 draws exhaust so small an image: every anchor inside it that is not ignored counts.
    rng = np.random.default_rng(2)
    count = len(paper.anchors)
    logits, deltas = rng.normal(size=(2, count)), rng.normal(size=(2, count, 4))
    classification, regression, drawn = 0.0, 0.0, 0
    height, width = SIZE
    for b in range(2):
        boxes = targets["boxes"][b][targets["labels"][b] >= 0].astype("float64")
        inside = [
            a for a, (x1, y1, x2, y2) in enumerate(paper.anchors) if min(x1, y1) >= 0 and x2 <= width and y2 <= height
        ]
        overlap = box_ops.iou(boxes, paper.anchors[inside].astype("float64"))
        for k, a in enumerate(inside):
            claims = [g for g in range(len(boxes)) if overlap[g, k] == overlap[g].max() > 0]
            if claims or overlap[:, k].max() > 0.7:
                own = overlap[:, k].max() > 0.7 or not claims
                box = boxes[overlap[:, k].argmax() if own else max(claims, key=lambda g: overlap[g, k])]
                classification += np.log(1 + np.exp(-logits[b, a]))
                d = np.abs(box_ops.encode(box, paper.anchors[a].astype("float64")) - deltas[b, a])
                regression += np.where(d < 1 / 9, 4.5 * d**2, d - 0.5 / 9).sum()  # sigma 3
            elif overlap[:, k].max() < 0.3:
                classification += np.log(1 + np.exp(logits[b, a]))
            else:
                continue
            drawn += 1
    raw = {"objectness": logits.astype("float32"), "deltas": deltas.astype("float32")}
    raw = {key: keras.ops.convert_to_tensor(value) for key, value in raw.items()}
    parts = paper._proposal_losses({k: keras.ops.convert_to_tensor(v) for k, v in targets.items()}, raw)
    np.testing.assert_allclose(float(parts["rpn_class_loss"]), classification / drawn, rtol=1e-4)
    np.testing.assert_allclose(float(parts["rpn_box_loss"]), regression / drawn, rtol=1e-4)


def test_region_losses_equal_the_papers_formula_as_a_loop(random_batch):
    _, targets = random_batch(seed=3, size=SIZE)
    rng = np.random.default_rng(4)
    regions = np.concatenate([(corner := rng.uniform(0, 50, (2, 9, 2))), corner + rng.uniform(5, 40, (2, 9, 2))], -1)
    drawn = rng.integers(-2, 2, (2, 9))
    logits, deltas = rng.normal(size=(2, 9, 4)), rng.normal(size=(2, 9, 3, 4))
    classification, regression, count = 0.0, 0.0, 0
    for b, r in np.ndindex(2, 9):
        if drawn[b, r] == matching.IGNORED:
            continue
        count += 1
        label = targets["labels"][b, drawn[b, r]] if drawn[b, r] >= 0 else -1
        classification += np.log(np.exp(logits[b, r]).sum()) - logits[b, r, label + 1]
        if drawn[b, r] >= 0:
            box = targets["boxes"][b, drawn[b, r]].astype("float64")
            d = np.abs(box_ops.encode(box, regions[b, r], (0.1, 0.1, 0.2, 0.2)) - deltas[b, r, label])
            regression += np.where(d < 1, 0.5 * d**2, d - 0.5).sum()
    found = {"classes": logits.astype("float32"), "boxes": keras.ops.convert_to_tensor(deltas.astype("float32"))}
    parts = region_head.region_losses(
        found,
        keras.ops.convert_to_tensor(regions.astype("float32")),
        keras.ops.convert_to_tensor(drawn.astype("int32")),
        {k: keras.ops.convert_to_tensor(v) for k, v in targets.items()},
        BoxDecoder(region_head.VARIANCES),
    )
    np.testing.assert_allclose(float(parts["class_loss"]), classification / count, rtol=1e-4)
    np.testing.assert_allclose(float(parts["box_loss"]), regression / count, rtol=1e-4)


def test_a_quarter_of_the_drawn_regions_shows_objects():
    boxes, labels = np.array([[[10, 10, 30, 30]]], "float32"), np.array([[2]], "int32")
    near = [[10 + k % 3, 10, 30, 30] for k in range(20)]  # IoU 0.9 and more
    far = [[40, 40 + k, 60, 60 + k] for k in range(20)]
    touching = [[10, 10, 20, 20 + k / 10] for k in range(20)]  # IoU 0.25 and a little more
    regions = np.array([near + far + touching + [[0] * 4] * 40], "float32")
    seed = keras.random.SeedGenerator(0)
    targets = {"boxes": boxes, "labels": labels}
    chosen, drawn = region_head.draw_regions(regions, targets, 32, seed)
    chosen, drawn = keras.ops.convert_to_numpy(chosen), keras.ops.convert_to_numpy(drawn)
    assert (drawn == 0).sum() == 8
    assert (drawn == matching.NEGATIVE).sum() == 24
    assert (box_ops.area(chosen) > 0).all()  # never the padding
    # Fast R-CNN's background overlaps an object a little.
    chosen, drawn = region_head.draw_regions(regions, targets, 32, seed, lowest=0.1)
    chosen, drawn = keras.ops.convert_to_numpy(chosen), keras.ops.convert_to_numpy(drawn)
    assert (chosen[drawn == matching.NEGATIVE][:, :2] == 10).all()


def test_each_class_has_a_box_of_its_own():
    regions = np.array([[[10, 10, 30, 30], [0, 0, 0, 0]]], "float32")
    deltas = np.zeros((1, 2, 2, 4), "float32")
    deltas[0, :, 1, 0] = 5.0  # the second class says: half a width (5 times 0.1) to the right
    found = {"classes": np.log(np.array([[[0.1, 0.3, 0.6]] * 2], "float32")), "boxes": deltas}
    nms = NonMaxSuppression(0.3, 0.05, 4)
    found = region_head.region_detections(found, regions, BoxDecoder(region_head.VARIANCES), nms, (28, 64))
    assert int(found["num_detections"][0]) == 2  # none of the region without area
    np.testing.assert_array_equal(found["labels"][0, :2], [1, 0])
    np.testing.assert_allclose(found["boxes"][0, :2], [[20, 10, 40, 28], [10, 10, 30, 28]], atol=1e-4)
    np.testing.assert_allclose(found["scores"][0, :2], [0.6, 0.3], rtol=1e-5)


def test_dropout_is_for_training_only(paper, random_batch):
    images, targets = random_batch(size=SIZE)
    raw = {**paper(images), "training": False}
    targets = {k: keras.ops.convert_to_tensor(v) for k, v in targets.items()}
    model = small("vgg16", regions_per_image=200, dropout=0.5)  # draws whatever there is: no chance but dropout's
    model.head.classes.kernel.assign(model.head.classes.kernel * 50)  # logits that say something
    parts = [float(model.raw_losses(targets, {**raw, "training": t})["class_loss"]) for t in (False, False, True)]
    assert parts[0] == pytest.approx(parts[1], rel=1e-5)
    assert parts[0] != pytest.approx(parts[2], rel=1e-3)


@pytest.mark.parametrize("backbone", [pytest.param("vgg16", marks=pytest.mark.slow), "tiny"])
def test_what_holds_for_every_detector(check_detector, random_batch, tmp_path, backbone):
    check_detector(lambda: small(backbone), random_batch, tmp_path)


def test_the_first_stage_shows_what_it_proposes(modern):
    images = np.random.default_rng(0).uniform(0, 255, (2, *SIZE, 3)).astype("uint8")
    proposed = modern.propose(images, count=10)
    assert proposed["anchors"].shape == (2, 10, 4)

    def are_anchors(boxes):
        return all((modern.anchors == box).all(1).any() for box in boxes.reshape(-1, 4))

    assert are_anchors(proposed["anchors"])
    assert (np.diff(proposed["anchor_scores"]) <= 0).all()
    assert proposed["proposals"].shape == (2, 20, 4)
    assert proposed["proposals"].min() >= 0
    assert (proposed["proposals"] <= np.array([SIZE[1], SIZE[0]] * 2)).all()
    doubled = modern.propose(images.repeat(2, axis=1).repeat(2, axis=2), count=10)
    assert are_anchors(doubled["anchors"] / 2)


def test_both_stages_learn(modern, random_batch):
    images, targets = random_batch(size=SIZE)
    modern.compile(keras.optimizers.SGD(0.01))
    before = {w.path: keras.ops.convert_to_numpy(w).copy() for w in modern.trainable_variables}
    modern.train_on_batch(images, targets)
    same = [w.path for w in modern.trainable_variables if np.array_equal(before[w.path], keras.ops.convert_to_numpy(w))]
    assert same == []
    assert {"fc6", "fc7", "classes", "boxes"} <= {path.split("/")[-2] for path in before}
    assert {"rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss"} <= set(modern.get_metrics_result())


@pytest.mark.parametrize(
    ("backbone", "steps", "rate"), [pytest.param("vgg16", 400, 1e-3, marks=pytest.mark.slow), ("tiny", 80, 3e-3)]
)
def test_overfits_a_handful_of_images(overfit, rectangles, backbone, steps, rate):
    keras.utils.set_random_seed(0)
    images, targets = rectangles(count=6, size=SIZE)
    model = small(backbone, num_classes=2, class_names=["red", "blue"], dropout=0.0)
    assert overfit(model, images, targets, steps, rate) >= 0.95


def test_a_backbone_of_your_own_is_saved_whole(tmp_path):
    image = keras.Input((64, 64, 3))
    x, maps = image, {}
    for level in range(1, 6):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
        maps[f"C{level}"] = x
    model = small(keras.Model(image, maps, name="own"), image_size=64)
    model.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras")
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    np.testing.assert_array_equal(loaded.detect(images)["scores"], model.detect(images)["scores"])


def test_faults_are_named():
    with pytest.raises(ValueError, match="5 levels needs as many anchor_sizes"):
        small(anchor_sizes=[32, 64])
    with pytest.raises(ValueError, match="first_level=0, but the backbone has only"):
        small(first_level=0)


@pytest.mark.parametrize(
    ("backbone", "quantization"),
    [("vgg16", None), ("tiny", None), ("tiny", "int8"), pytest.param("vgg16", "int8", marks=pytest.mark.slow)],
)
def test_one_litert_file_holds_both_stages(rectangles, tmp_path, backbone, quantization):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("export needs the TensorFlow backend")
    pytest.importorskip("ai_edge_litert")
    import kzoo.export

    model, images = outspoken(backbone), rectangles(count=6, size=SIZE)[0]
    # Refuses any operator that is not builtin.
    path = kzoo.export.litert(model, tmp_path / "m.tflite", quantization, calibration=images)
    if quantization is None:
        result = kzoo.export.verify(path, model, images, min_score=0.5)
        assert result["detections"] >= 20
        assert result["label_agreement"] == 1.0
        assert result["max_box_error_px"] < 0.05
        assert result["max_score_error"] < 1e-3
    else:
        found, expected = kzoo.export.load(path).detect(images), model.detect(images)
        assert (found["num_detections"] > 0).all()
        assert np.abs(np.sort(found["scores"])[:, -1] - np.sort(expected["scores"])[:, -1]).max() < 0.2


@pytest.mark.slow
def test_a_saved_model_holds_both_stages(rectangles, tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("export needs the TensorFlow backend")
    import kzoo.export

    model, images = outspoken("tiny"), rectangles(count=4, size=SIZE)[0]
    folder = kzoo.export.saved_model(model, tmp_path / "saved")
    result = kzoo.export.verify(folder, model, images, min_score=0.5)
    assert result["detections"] >= 10
    assert result["label_agreement"] == 1.0
    assert result["max_box_error_px"] < 0.05

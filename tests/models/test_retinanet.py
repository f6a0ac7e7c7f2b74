"""RetinaNet: the paper's counts, its loss and its rivals as plain loops, its decoding."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo import boxes as box_ops
from kzoo.models import RetinaNet
from kzoo.models.retinanet import LOSSES


def tiny(**kwargs):
    arguments = {
        "image_size": (64, 96),
        "backbone": "tiny",
        "width": 0.5,
        "channels": 16,
        "class_names": ["a", "b", "c"],
    }
    return RetinaNet(3, **arguments | kwargs)


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    return tiny()


def test_retinanet_is_the_papers_network(unfilled):
    model = RetinaNet(num_classes=80)
    # 600 pixels: 75^2 + 38^2 + 19^2 + 10^2 + 5^2 cells, nine anchors each.
    anchors = 9 * (75**2 + 38**2 + 19**2 + 10**2 + 5**2)
    assert model.anchors.shape == (anchors, 4)
    assert model.output["classes"].shape == (None, anchors, 80)
    assert model.output["boxes"].shape == (None, anchors, 4)
    resnet50 = 23_561_152
    conv = 9 * 256 * 256 + 256
    pyramid = (512 + 1024 + 2048) * 256 + 3 * 256 + 3 * conv + (9 * 2048 * 256 + 256) + conv
    heads = 8 * conv + (9 * 256 + 1) * 9 * 80 + (9 * 256 + 1) * 9 * 4  # shared by all levels
    assert model.count_params() == resnet50 + pyramid + heads


def test_anchors_have_the_papers_sizes_and_shapes(small):
    size = small.anchors[:, 2:] - small.anchors[:, :2]
    area, ratio = np.sqrt(size.prod(-1)), size[:, 0] / size[:, 1]
    np.testing.assert_allclose(area[:9], 32 * 2 ** (np.repeat([0, 1, 2], 3) / 3), rtol=1e-5)
    np.testing.assert_allclose(ratio[:9], [0.5, 1, 2] * 3, rtol=1e-5)
    np.testing.assert_allclose(area[-1], 512 * 2 ** (2 / 3), rtol=1e-5)
    np.testing.assert_allclose((small.anchors[0, :2] + small.anchors[0, 2:]) / 2, [4, 4])


def test_an_untrained_network_says_one_percent_of_every_anchor_and_class(small):
    raw = small.predict(np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)), verbose=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-raw["classes"])), 0.01, atol=2e-3)


def reference_loss(model, logits, deltas, targets, loss, alpha, gamma):
    """Section 3 and 4.1 anchor by anchor, in float64."""
    class_loss = box_loss = count = 0.0
    for b in range(len(logits)):
        valid = targets["labels"][b] >= 0
        boxes, labels = targets["boxes"][b][valid], targets["labels"][b][valid]
        overlap = box_ops.iou(boxes, model.anchors)
        values, positives = {}, []
        for a in range(len(model.anchors)):
            best = overlap[:, a].max()
            if 0.4 <= best < 0.5:
                continue  # ignored
            target = np.zeros(3)
            if best >= 0.5:
                g = overlap[:, a].argmax()
                target[labels[g]] = 1
                positives.append(a)
                d = np.abs(box_ops.encode(boxes[g], model.anchors[a]) - deltas[b, a])
                box_loss += np.where(d < 1 / 9, 4.5 * d**2, d - 1 / 18).sum()
            p = 1 / (1 + np.exp(-logits[b, a]))
            pt = np.where(target == 1, p, 1 - p)
            at = 1.0 if alpha is None else np.where(target == 1, alpha, 1 - alpha)
            values[a] = (-at * (1 - pt) ** gamma * np.log(pt)).sum()
        if loss == "hard_negative":
            negatives = sorted((v for a, v in values.items() if a not in positives), reverse=True)
            class_loss += sum(values[a] for a in positives) + sum(negatives[: 3 * len(positives)])
        else:
            class_loss += sum(values.values())
        count += len(positives)
    assert count > 3
    return class_loss / count, box_loss / count


@pytest.mark.parametrize(
    ("loss", "alpha", "gamma"),
    [("focal", 0.25, 2), ("weighted_cross_entropy", 0.75, 0), ("cross_entropy", None, 0), ("hard_negative", None, 0)],
)
def test_each_loss_equals_its_formula_as_a_loop(random_batch, loss, alpha, gamma):
    model = tiny(loss=loss, width=0.25)
    _, targets = random_batch(11)
    rng = np.random.default_rng(2)
    logits, deltas = rng.normal(0, 2, (2, len(model.anchors), 3)), rng.normal(size=(2, len(model.anchors), 4))
    raw = {"classes": logits.astype("float32"), "boxes": deltas.astype("float32")}
    parts = model.raw_losses({k: keras.ops.convert_to_tensor(v) for k, v in targets.items()}, raw)
    expected = reference_loss(model, logits, deltas, targets, loss, alpha, gamma)
    np.testing.assert_allclose([float(parts["class_loss"]), float(parts["box_loss"])], expected, rtol=1e-4)


def test_an_object_without_an_anchor_is_learned_only_if_it_may_claim_one():
    targets = {"boxes": np.array([[[40, 30, 44, 33]]], "float32"), "labels": np.array([[1]], "int32")}
    positives = {}
    for claim in ("none", "best"):
        model = tiny(claim=claim, width=0.25)
        zeros = {k: np.zeros((1, *x.shape[1:]), "float32") for k, x in model.output.items()}
        positives[claim] = float(model.raw_losses(targets, zeros)["box_loss"]) > 0
    assert positives == {"none": False, "best": True}


def test_decoding_takes_the_best_of_each_level_above_the_threshold(small):
    model = tiny(candidates_per_level=2, score_threshold=0.3, iou_threshold=0.9)
    logits = np.full((1, len(model.anchors), 3), -9.0, "float32")
    logits[0, [0, 40, 80], 1] = [2.0, 1.0, 0.5]  # three of P3, where two are kept
    logits[0, -1, 2] = -0.5  # sigmoid 0.378, of P7
    logits[0, -2, 2] = -1.0  # sigmoid 0.269, below the threshold
    raw = {"classes": logits, "boxes": np.zeros((1, len(model.anchors), 4), "float32")}
    found = {k: keras.ops.convert_to_numpy(v)[0] for k, v in model.decode(raw).items()}
    assert found["num_detections"] == 3
    assert found["labels"][:3].tolist() == [1, 1, 2]
    np.testing.assert_allclose(found["scores"][:3], 1 / (1 + np.exp([-2.0, -1.0, 0.5])), rtol=1e-5)
    np.testing.assert_allclose(found["boxes"][:3], box_ops.clip(model.anchors[[0, 40, -1]], (64, 96)), atol=1e-4)


def test_what_holds_for_every_detector(check_detector, random_batch, tmp_path):
    check_detector(tiny, random_batch, tmp_path)


def test_mobilenets_get_separable_heads_of_half_the_channels():
    model = RetinaNet(2, image_size=(75, 128), backbone="mobilenet", width=0.25)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("SeparableConv2D") == 2 * 5 + 3 + 2  # heads, P3 to P5, P6 and P7
    assert "Conv2D" in kinds  # lateral
    assert model.get_config()["channels"] == 32
    found = model.detect(np.zeros((1, 75, 128, 3), "uint8"))
    assert np.isfinite(found["boxes"]).all()


def test_the_edge_variants_towers_let_the_signal_through_from_the_start_on_every_level():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((256, 256, 3))
    maps = {f"C{k}": keras.layers.Conv2D(128 * 2**k // 4, 2**k, 2**k, activation="relu")(pixels) for k in (3, 4, 5)}
    model = RetinaNet(2, image_size=(256, 256), backbone=keras.Model(pixels, maps, name="mobilenet_like"))
    images = np.random.default_rng(0).normal(size=(2, 256, 256, 3)).astype("float32")
    norms = [model.get_layer(f"{part}_p{level}_bn4") for part in ("classes", "boxes") for level in range(3, 8)]
    inputs = keras.Model(model.inputs, [norm.input for norm in norms])(images, training=True)
    for norm, before in zip(norms, inputs, strict=True):
        # Well above the epsilon that batch norm adds: what is below it stays damped.
        assert np.var(keras.ops.convert_to_numpy(before)) > 2 * norm.epsilon, norm.name


@pytest.mark.parametrize("size", [(1, 1), (33, 57)])
def test_any_image_size_gives_as_many_outputs_as_anchors(size):
    model = RetinaNet(1, image_size=size, backbone="tiny", width=0.25, channels=8)
    assert model.output["boxes"].shape[1] == len(model.anchors)
    assert np.isfinite(model.detect(np.zeros((1, *size, 3), "uint8"))["boxes"]).all()


def test_a_backbone_of_ones_own_with_fewer_maps_is_saved_whole(tmp_path):
    image = keras.Input((64, 64, 3))
    c3 = keras.layers.Conv2D(8, 3, 8, padding="same")(image)
    own = keras.Model(image, {"C3": c3, "C4": keras.layers.Conv2D(8, 3, 2, padding="same")(c3)}, name="own")
    model = RetinaNet(2, 64, own, channels=8, last_level=5)
    model.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras")
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    np.testing.assert_array_equal(loaded.predict(images, verbose=0)["boxes"], model.predict(images, verbose=0)["boxes"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_tiny_retinanet_overfits_a_handful_of_images_with_each_loss(rectangles, overfit, loss):
    keras.utils.set_random_seed(0)
    model = RetinaNet(2, (64, 96), "tiny", width=0.5, channels=32, last_level=5, anchor_scale=3, loss=loss)
    assert overfit(model, *rectangles(), epochs=200, rate=2e-3) >= 0.95


def test_create_knows_retinanet_and_faults_are_named():
    model = kzoo.models.create("retinanet", num_classes=2, backbone="tiny", image_size=64, channels=8)
    assert model.image_size == (64, 64)
    assert "Focal Loss" in kzoo.models.info("retinanet")["paper"]
    with pytest.raises(ValueError, match="Did you mean 'focal'"):
        tiny(loss="focl")
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        RetinaNet(0)
    with pytest.raises(ValueError, match="last_level must be at least first_level"):
        tiny(first_level=4, last_level=3)
    with pytest.raises(ValueError, match=r"first_level=6, but the backbone has only C1.*C5"):
        tiny(first_level=6)
    with pytest.raises(ValueError, match="class_names has 1 names"):
        tiny(class_names=["a"])
    with pytest.raises(ValueError, match="image_size must be one number of pixels"):
        tiny(image_size=(0, 5))

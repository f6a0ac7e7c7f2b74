"""YOLO: the paper's counts, its loss as a plain loop, its decoding."""

import itertools

import keras
import numpy as np
import pytest

import kzoo
from kzoo import boxes as box_ops
from kzoo.models import YOLO, FastYOLO


def tiny(**kwargs):
    arguments = {
        "image_size": (64, 96),
        "backbone": "tiny",
        "width": 0.5,
        "grid": (4, 6),
        "class_names": ["a", "b", "c"],
    }
    return YOLO(3, **arguments | kwargs)


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    return tiny()


def test_yolo_is_the_papers_network(unfilled):
    model = YOLO(num_classes=20)
    assert model.grid == (7, 7)
    shapes = {key: x.shape[1:] for key, x in model.output.items()}
    assert shapes == {"classes": (7, 7, 20), "boxes": (7, 7, 2, 4), "confidences": (7, 7, 2)}
    assert sum(np.prod(shape) for shape in shapes.values()) == 7 * 7 * 30
    # Figure 3, (channels in, channels out, kernel): 24 convolutions and two connected layers.
    convolutions = [(3, 64, 7), (64, 192, 3), (192, 128, 1), (128, 256, 3), (256, 256, 1), (256, 512, 3)]
    convolutions += [(512, 256, 1), (256, 512, 3)] * 4 + [(512, 512, 1), (512, 1024, 3)]
    convolutions += [(1024, 512, 1), (512, 1024, 3)] * 2 + [(1024, 1024, 3)] * 4
    assert len(convolutions) == 24
    connected = 7 * 7 * 1024 * 4096 + 4096 + 4096 * 1470 + 1470
    assert model.count_params() == sum(k * k * i * o + o for i, o, k in convolutions) + connected


def test_fast_yolo_has_nine_convolutions(unfilled):
    model = FastYOLO(num_classes=20)
    channels = [3, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
    convolutions = sum(9 * i * o + o for i, o in itertools.pairwise(channels))
    connected = 7 * 7 * 1024 * 256 + 256 + 256 * 4096 + 4096 + 4096 * 1470 + 1470
    assert model.count_params() == convolutions + connected
    assert sum(np.prod(x.shape[1:]) for x in model.output.values()) == 7 * 7 * 30


@pytest.mark.parametrize(
    ("size", "grid", "boxes", "classes"), [(448, 7, 2, 20), ((100, 130), (3, 5), 3, 1), (64, 1, 1, 4)]
)
@pytest.mark.parametrize("head", ["connected", "convolutional"])
def test_any_grid_and_numbers_of_boxes_and_classes(size, grid, boxes, classes, head):
    model = YOLO(classes, size, "tiny", width=0.05, grid=grid, boxes_per_cell=boxes, head=head)
    rows, columns = model.grid
    assert sum(np.prod(x.shape[1:]) for x in model.output.values()) == rows * columns * (boxes * 5 + classes)
    assert np.isfinite(model.detect(np.zeros((1, *model.image_size, 3), "uint8"))["boxes"]).all()


def reference_loss(model, raw, targets):
    """Equation 3 cell by cell, in float64."""
    (rows, columns), (height, width), b_count = model.grid, model.image_size, model.boxes_per_cell
    parts = np.zeros(3)
    chosen = []
    for b in range(len(targets["labels"])):
        for i in range(rows):
            for j in range(columns):
                confidences = raw["confidences"][b, i, j]
                parts[2] += 0.5 * (confidences**2).sum()  # taken back below for the responsible predictor
                for box, label in zip(targets["boxes"][b], targets["labels"][b], strict=True):
                    x, y = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
                    if label >= 0 and int(x * columns) == j and int(y * rows) == i:
                        break
                else:
                    continue
                w, h = (box[2] - box[0]) / width, (box[3] - box[1]) / height
                ious, errors = [], []
                for k in range(b_count):
                    px, py, pw, ph = raw["boxes"][b, i, j, k]
                    px, py, pw, ph = (px + j) / columns, (py + i) / rows, pw**2, ph**2
                    corners = np.array([[px - pw / 2, py - ph / 2, px + pw / 2, py + ph / 2]]) * ([width, height] * 2)
                    ious.append(box_ops.iou(corners, box[None].astype("float64"))[0, 0])
                    errors.append(np.sqrt(((np.array([px, py, pw, ph]) - [x, y, w, h]) ** 2).sum()))
                k = int(np.argmax(ious)) if max(ious) > 0 else int(np.argmin(errors))
                chosen.append((k, max(ious) > 0))
                px, py, pw, ph = raw["boxes"][b, i, j, k]
                centre = (px - (x * columns - j)) ** 2 + (py - (y * rows - i)) ** 2
                parts[1] += 5 * (centre + (pw - np.sqrt(w)) ** 2 + (ph - np.sqrt(h)) ** 2)
                parts[2] += (confidences[k] - ious[k]) ** 2 - 0.5 * confidences[k] ** 2
                one_hot = np.arange(model.num_classes) == label
                parts[0] += ((raw["classes"][b, i, j] - one_hot) ** 2).sum()
    return parts / len(targets["labels"]), chosen


def test_the_loss_equals_the_papers_formula_as_a_loop(random_batch):
    model = tiny(boxes_per_cell=3, width=0.1)
    _, targets = random_batch(5, count=6, boxes=5)
    rng = np.random.default_rng(2)
    raw = {key: rng.normal(0, 0.5, (6, *x.shape[1:])).astype("float32") for key, x in model.output.items()}
    parts = model.raw_losses(targets, raw)
    expected, chosen = reference_loss(model, raw, targets)
    assert {overlaps for _, overlaps in chosen} == {True, False}  # both rules were needed
    assert {k for k, _ in chosen} == {0, 1, 2}
    found = [float(parts[name]) for name in ("class_loss", "box_loss", "confidence_loss")]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_perfect_network_has_no_loss():
    model = tiny(width=0.1, boxes_per_cell=1)
    targets = {"boxes": np.array([[[8, 8, 40, 56]]], "float32"), "labels": np.array([[1]], "int32")}
    raw = {key: np.zeros((1, *x.shape[1:]), "float32") for key, x in model.output.items()}
    raw["boxes"][0, 2, 1, 0] = 0.5, 0.0, np.sqrt(32 / 96), np.sqrt(48 / 64)  # the centre is (24, 32), cells are 16 wide
    raw["classes"][0, 2, 1, 1] = raw["confidences"][0, 2, 1, 0] = 1.0
    assert sum(float(x) for x in model.raw_losses(targets, raw).values()) < 1e-9
    found = {key: keras.ops.convert_to_numpy(x)[0] for key, x in model.decode(raw).items()}
    assert found["num_detections"] == 1
    np.testing.assert_allclose(found["boxes"][0], [8, 8, 40, 56], atol=1e-3)
    assert (found["labels"][0], found["scores"][0]) == (1, 1.0)


def test_of_two_objects_in_a_cell_the_first_is_learned(small):
    boxes = np.array([[[0, 0, 10, 10], [2, 2, 12, 12], [90, 60, 96, 64]]], "float32")
    matched, _, labels = (
        keras.ops.convert_to_numpy(x)[0]
        for x in small.assign({"boxes": boxes, "labels": np.array([[2, 0, 1]], "int32")})
    )
    assert matched[0] == 0
    assert labels[0] == 2
    assert (matched[-1], labels[-1]) == (2, 1)
    assert (np.delete(matched, [0, 23]) == -1).all()


def test_a_centre_on_the_far_border_belongs_to_the_last_cell(small):
    boxes = np.array([[[92, 60, 100, 68]]], "float32")
    matched, _, _ = small.assign({"boxes": boxes, "labels": np.array([[0]], "int32")})
    assert np.flatnonzero(keras.ops.convert_to_numpy(matched)[0] == 0).tolist() == [23]


def test_scores_are_class_probability_times_confidence(small):
    raw = {key: np.zeros((1, *x.shape[1:]), "float32") for key, x in small.output.items()}
    raw["boxes"][...] = 0.5
    raw["classes"][0, 1, 1], raw["confidences"][0, 1, 1] = [0.8, 0.1, -0.5], [0.5, -0.9]
    raw["classes"][0, 3, 5], raw["confidences"][0, 3, 5] = [2.0, 0.0, 0.0], [0.0, 0.9]
    found = {key: keras.ops.convert_to_numpy(x)[0] for key, x in small.decode(raw).items()}
    assert found["num_detections"] == 3  # two negative numbers make no score
    np.testing.assert_allclose(found["scores"][:3], [1.0, 0.4, 0.05], rtol=1e-5)
    assert found["labels"][:3].tolist() == [0, 0, 1]
    np.testing.assert_allclose(found["boxes"][1], [24 - 12, 24 - 8, 24 + 12, 24 + 8], atol=1e-4)


def test_what_holds_for_every_detector(check_detector, random_batch, tmp_path):
    check_detector(tiny, random_batch, tmp_path)


def test_the_connected_head_trains_and_is_saved(random_batch, tmp_path):
    model = YOLO(3, (64, 96), "fast_yolo", width=0.05)
    assert model.grid == (1, 2)
    images, targets = random_batch()
    model.compile(keras.optimizers.Adam(1e-3))
    losses = [model.train_on_batch(images, targets, return_dict=True)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "yolo.keras")
    loaded = keras.models.load_model(tmp_path / "yolo.keras")
    np.testing.assert_array_equal(loaded.detect(images)["boxes"], model.detect(images)["boxes"])


def test_mobilenets_get_separable_convolutions_and_a_light_head():
    model = YOLO(2, 96, "mobilenet", width=0.25, grid=3)
    assert "SeparableConv2D" in [type(layer).__name__ for layer in model.layers]
    assert model.count_params() < 500_000


@pytest.mark.parametrize(
    ("size", "grid", "stage"),
    [
        (300, 10, 5),  # MobileNet's last map has 9 x 9 positions of 300 pixels: enlarged
        (300, 12, 4),
        (300, 5, 5),
        ((384, 512), (24, 32), 4),
        ((384, 512), (12, 16), 5),
    ],
)
def test_cells_look_at_the_coarsest_map_that_is_fine_enough(size, grid, stage):
    model = YOLO(2, size, "mobilenet", width=0.25, grid=grid)
    trunk = next(layer for layer in model.layers if layer.name == "mobilenet_backbone")
    assert list(trunk.output) == [f"C{k}" for k in range(1, stage + 1)]
    assert model.output["boxes"].shape[1:3] == model.grid


def test_weights_of_the_classifier_fit_the_detector(tmp_path):
    trained = kzoo.backbones.create("yolo", (64, 64), width=0.05)
    (body,) = (layer for layer in trained.layers if isinstance(layer, keras.Model))
    body.save_weights(tmp_path / "classifier.weights.h5")
    model = YOLO(2, 128, width=0.05, weights=tmp_path / "classifier.weights.h5")
    kernel = next(w for w in model.weights if w.path.endswith("conv20/kernel"))
    np.testing.assert_array_equal(kernel, next(w for w in body.weights if w.path.endswith("conv20/kernel")))
    assert all(layer.trainable for layer in model.layers)  # the paper fine-tunes the whole network


def test_tiny_yolo_overfits_a_handful_of_images(rectangles, overfit):
    keras.utils.set_random_seed(0)
    model = YOLO(2, (64, 96), "tiny", width=0.5, grid=(4, 6))
    assert overfit(model, *rectangles(), epochs=250, rate=5e-3) >= 0.95


def test_create_knows_both_and_faults_are_named():
    model = kzoo.models.create("fast_yolo", num_classes=2, image_size=64, width=0.05)
    assert (model.name, model.get_config()["backbone"]) == ("fast_yolo", "fast_yolo")
    assert "You Only Look Once" in kzoo.models.info("yolo")["paper"]
    with pytest.raises(ValueError, match="Did you mean 'yolo'"):
        kzoo.models.create("yollo", 2)
    with pytest.raises(ValueError, match="Did you mean 'connected'"):
        tiny(head="conected")
    with pytest.raises(ValueError, match="at least 1"):
        tiny(boxes_per_cell=0)
    with pytest.raises(ValueError, match="at least 1"):
        tiny(grid=0)
    with pytest.raises(ValueError, match=r"finer than the finest map of the backbone, C1 of \(32, 48\)"):
        tiny(grid=60)

"""R-CNN and SPP-net whole: they learn made pictures, survive saving, and take images without anything in them."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo.models import region_training
from kzoo.models.sppnet import choose_scales

pytest.importorskip("sklearn", reason="the SVMs need scikit-learn")


def made(count=6, seed=0):
    """Pictures 64 x 96 of a red and a blue square; proposals are the squares, 3 pixels to the right, and others."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(100, 130, (count, 64, 96, 3)).astype("float32")
    boxes, labels = np.zeros((count, 3, 4), "float32"), np.full((count, 3), -1, "int32")
    proposals = np.zeros((count, 40, 4), "float32")
    for i in range(count):
        for j in range(2):
            side = rng.integers(20, 36)
            x, y = 48 * j + rng.integers(0, 48 - side), rng.integers(0, 64 - side)
            images[i, y : y + side, x : x + side] = [[255, 40, 0], [0, 60, 255]][j]
            boxes[i, j], labels[i, j] = (x, y, x + side, y + side), j
            proposals[i, 8 * j : 8 * j + 8] = boxes[i, j] + [3, 0, 3, 0] + rng.integers(-1, 2, (8, 4))
        corners = rng.uniform(0, 1, (20, 2, 2)) * [96, 64]
        proposals[i, 16:36] = np.concatenate([corners.min(1), corners.max(1) + 2], axis=1)
    return images, {"boxes": boxes, "labels": labels, "proposals": proposals}


def rcnn(**kwargs):
    options = {"crop_size": 32, "backbone": "tiny", "width": 0.5, "units": 32, "image_size": (64, 96)}
    return kzoo.models.create("rcnn", 2, **options | kwargs)


def sppnet(**kwargs):
    options = {"scales": (192,), "backbone": "tiny", "width": 0.5, "units": 32, "image_size": (64, 96)}
    return kzoo.models.create("sppnet", 2, **options | kwargs)


@pytest.fixture(scope="module", params=[(rcnn, 32), (sppnet, 12)], ids=["rcnn", "sppnet"])
def trained(request):
    keras.utils.set_random_seed(0)
    make, epochs = request.param
    model = make(class_names=["red", "blue"])
    model.compile(keras.optimizers.Adam(3e-3))
    untrained = model.detect(made(1)[0], made(1)[1]["proposals"])
    report = model.fit(made(), epochs=epochs, verbose=0)
    return model, untrained, report


def test_it_learns_made_pictures_in_three_stages(trained):
    model, untrained, report = trained
    assert untrained["num_detections"].sum() > 0  # all at the sigmoid of -1, which says nothing
    assert untrained["scores"].max() == pytest.approx(1 / (1 + np.e), abs=1e-6)
    assert report["loss"][-1] < report["loss"][0]
    assert set(report["seconds"]) == {"fine-tuning", "features", "SVMs", "boxes"}
    images, targets = made()
    metric = kzoo.metrics.MeanAveragePrecision("coco")
    metric.update_state(targets, model.detect(images, targets["proposals"]))
    assert metric.result()["mAP@0.50"] > 0.9


def test_box_regression_makes_boxes_fit_better(trained):
    model, _, _ = trained
    images, targets = made()

    def mean_ap():
        return kzoo.metrics.evaluate(model, (images, targets))["mAP"]

    with_boxes, layer = mean_ap(), model.get_layer("boxes")
    kept = layer.get_weights()
    layer.set_weights([np.zeros_like(w) for w in kept])
    without = mean_ap()
    layer.set_weights(kept)
    assert with_boxes > without + 0.05


def test_saving_keeps_the_whole_detector(trained, tmp_path):
    model, _, _ = trained
    images, targets = made(2, seed=5)
    before = model.detect(images, targets["proposals"])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for key, value in loaded.detect(images, targets["proposals"]).items():
        np.testing.assert_allclose(value, before[key], atol=1e-5)
    assert loaded.get_config() == model.get_config()
    assert loaded.class_names == ["red", "blue"]


def test_images_of_any_size_and_dtype_with_few_or_no_proposals(trained):
    model, _, _ = trained
    images, targets = made(2)
    found = model.detect(images.astype("uint8"), targets["proposals"][:, :5])
    assert found["boxes"].shape == (2, 100, 4)
    assert found["boxes"].max() <= 96
    nothing = model.detect(images, np.zeros((2, 7, 4)))
    assert nothing["num_detections"].sum() == 0
    assert (nothing["labels"] == -1).all()
    assert model.detect(images[:0], targets["proposals"][:0])["boxes"].shape == (0, 100, 4)
    tiny = model.detect(np.zeros((1, 1, 1, 3)), [[[0, 0, 1, 1]]])
    assert np.isfinite(tiny["boxes"]).all()
    with pytest.raises(ValueError, match=r"\(2, P, 4\)"):
        model.detect(images, targets["proposals"][:1])


def test_padding_to_few_shapes_changes_neither_features_nor_detections(trained):
    model, _, _ = trained
    images, targets = made(1)
    regions = targets["proposals"][0, :33]  # one more than fits into one shape
    described = model.describe(images[0], regions)
    assert {key: len(value) for key, value in described.items()} == {"fc7": 33, "pooled": 33}
    for key, value in model.describe(images[0], regions[32:]).items():
        np.testing.assert_allclose(described[key][32:], value, rtol=1e-4, atol=1e-4)
    scores = 1 / (1 + np.exp(-model.get_layer("svm")(described["fc7"])))
    found = model.detect(images, regions[None])
    scores = np.sort(np.asarray(scores).ravel())
    assert found["scores"][0, 0] == pytest.approx(scores[-1], abs=1e-5)
    many = model.detect(images, np.tile(regions, (3, 1))[None])  # other shapes, nothing new to find
    for key, value in many.items():
        np.testing.assert_allclose(value, found[key], atol=1e-4)


def test_it_searches_for_proposals_where_none_are_given(trained):
    pytest.importorskip("cv2", reason="selective search needs OpenCV")
    model, _, _ = trained
    images, targets = made(1)
    metric = kzoo.metrics.MeanAveragePrecision("coco")
    metric.update_state({key: value[:1] for key, value in targets.items()}, model.detect(images))
    assert metric.result()["mAP@0.50"] > 0.4


def test_images_without_objects_or_proposals_do_not_stop_a_training():
    images, targets = made(3)
    targets["labels"][1:] = -1
    targets["proposals"][2] = 0
    model = rcnn()
    model.fit((images, targets), epochs=1, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    with pytest.raises(ValueError, match='proposals="fast"'):
        model.fit((images, {"boxes": targets["boxes"], "labels": targets["labels"]}), epochs=1, verbose=0)


def test_sppnet_fine_tunes_the_fully_connected_layers_only_and_is_no_graph_to_export():
    model = sppnet()
    before = [w.copy() for w in model.trunk.get_weights()]
    model.fit(made(2), epochs=1, verbose=0)
    for old, new in zip(before, model.trunk.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not any("trunk" in w.path or "stage" in w.path for w in model.trainable_variables)
    with pytest.raises(ValueError, match="not one graph"):
        model.inference_model()


def test_a_step_draws_32_positives_and_96_backgrounds():
    images, targets = made(3)
    targets["proposals"] = np.tile(targets["proposals"], (1, 4, 1))
    (batch,) = region_training.batches((images, targets))
    drawn = region_training.draw(batch, np.random.default_rng(0))
    classes = np.concatenate([c for _, _, c in drawn])
    assert len(classes) == 128
    assert (classes > 0).sum() == 32
    for image, rows, own in drawn:
        best = image.overlap[rows].max(axis=1)
        np.testing.assert_array_equal(own > 0, best >= 0.5)
        np.testing.assert_array_equal(own[own > 0], image.labels[image.overlap[rows].argmax(axis=1)][own > 0] + 1)


def test_backgrounds_may_have_to_be_near_an_object():
    images, targets = made(3)
    targets["labels"][2] = -1
    (batch,) = region_training.batches((images, targets))
    drawn = region_training.draw(batch, np.random.default_rng(0), lowest=0.1)
    assert len(drawn) == 2  # the image without objects has no such region
    lowest = min(image.overlap[rows].max(axis=1).min() for image, rows, _ in drawn)
    assert 0.1 <= lowest < 0.5
    assert (kzoo.models.SPPNet.background_from, kzoo.models.RCNN.background_from) == (0.1, 0.0)


def test_mirrored_regions_show_the_mirrored_pixels():
    images, targets = made(1)
    ((image,),) = region_training.batches((images, targets))
    mirrored = region_training._mirrored(image)
    x1, y1, x2, y2 = image.regions[0].astype(int)
    m1, n1, m2, n2 = mirrored.regions[0].astype(int)
    np.testing.assert_array_equal(mirrored.pixels[n1:n2, m1:m2], image.pixels[y1:y2, x1:x2][:, ::-1])


def test_windows_are_pooled_as_a_loop_over_bins_does_it():
    model = sppnet()
    image = made(1)[0][0]
    boxes = np.array([[0, 0, 96, 64], [20, 10, 70, 60], [40, 30, 44, 34.0]], "float32")
    features = model.trunk.predict_on_batch(kzoo.images.resize(image, (192, 288))[None])["C4"][0]
    pooled = model.inputs_of(image, boxes)
    # Appendix A: its cell i looks at pixel 16 i + 15, as its backbone pads one end only.
    for box, row in zip((boxes * 3 - 15) / 16, pooled, strict=True):
        (left, right), (top, bottom) = (
            (max(0, int(np.floor(a)) + 1), min(n, int(np.ceil(b)))) for a, b, n in ((*box[::2], 18), (*box[1::2], 12))
        )
        if right <= left or bottom <= top:
            continue  # too thin: the layer's own tests
        window, expected = features[top:bottom, left:right], []
        h, w = window.shape[:2]
        for n in (1, 2, 3, 6):
            for i in range(n):
                for j in range(n):
                    rows = slice(i * h // n, -(-(i + 1) * h // n))
                    columns = slice(j * w // n, -(-(j + 1) * w // n))
                    expected.append(window[rows, columns].max(axis=(0, 1)))
        np.testing.assert_allclose(row, np.concatenate(expected), rtol=1e-5)


def test_each_window_is_looked_at_in_the_scale_in_which_it_is_nearest_to_224():
    boxes = np.array([[0, 0, 224, 224], [0, 0, 90, 90], [0, 0, 400, 400.0]])
    np.testing.assert_array_equal(choose_scales(boxes, 480, (480, 576, 688, 864, 1200)), [0, 4, 0])
    np.testing.assert_array_equal(choose_scales(boxes[:1] * 0.7, 480, (480, 688)), [1])
    pooled = sppnet(scales=(64, 128)).inputs_of(made(1)[0][0], np.array([[0, 0, 90, 60], [5, 5, 9, 9.0]]))
    assert pooled.shape[0] == 2
    assert np.isfinite(pooled).all()

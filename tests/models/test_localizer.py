"""Classification + localization: the slides' network, its two losses by hand, one box an image."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo.models import Localizer


def tiny(**kwargs):
    arguments = {
        "image_size": (64, 96),
        "backbone": "tiny",
        "width": 0.5,
        "units": (32,),
        "class_names": ["a", "b", "c"],
    }
    return Localizer(3, **arguments | kwargs)


def test_alexnet_with_two_heads_is_the_slides_network(unfilled):
    model = Localizer(num_classes=1000)
    convolutions = [(11, 3, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384), (3, 384, 256)]
    convolutions = sum(k * k * i * o + o for k, i, o in convolutions)
    connected = 6 * 6 * 256 * 4096 + 4096 + 4096 * 4096 + 4096
    heads = 4096 * 1000 + 1000 + 4096 * 4 + 4
    assert model.count_params() == convolutions + connected + heads
    assert convolutions + connected + 4096 * 1000 + 1000 == 62_378_344  # AlexNet in one tower
    assert model.output["classes"].shape == (None, 1000)
    assert model.output["boxes"].shape == (None, 4)


def test_both_losses_by_hand():
    model = tiny(box_weight=2.0, width=0.1)
    # The second image has no object; the first's is the larger one, centre (24, 32), 32 x 48 of 96 x 64 pixels.
    targets = {
        "boxes": np.array([[[0, 0, 4, 4], [8, 8, 40, 56], [0, 0, 96, 64]], [[0, 0, 9, 9]] * 3], "float32"),
        "labels": np.array([[0, 2, -1], [-1, -1, -1]], "int32"),
    }
    raw = {
        "classes": np.array([[0.0, 1.0, 2.0], [9.0, 0.0, 0.0]], "float32"),
        "boxes": np.array([[0.25, 0.7, 1 / 3, 0.5], [5.0, 5.0, 5.0, 5.0]], "float32"),
    }
    parts = model.raw_losses(targets, raw)
    assert float(parts["class_loss"]) == pytest.approx(np.log(1 + np.exp(1) + np.exp(2)) - 2, rel=1e-5)
    assert float(parts["box_loss"]) == pytest.approx(2.0 * (0.7 - 0.5) ** 2 + 2.0 * (0.75 - 0.5) ** 2, rel=1e-4)
    first = tiny(box_weight=2.0, width=0.1, target="first").raw_losses(targets, raw)
    assert float(first["class_loss"]) == pytest.approx(np.log(1 + np.exp(1) + np.exp(2)), rel=1e-5)


def test_the_decoder_gives_the_best_class_and_a_box_within_the_image():
    model = tiny(width=0.1)
    raw = {
        "classes": np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0]], "float32"),
        "boxes": np.array([[0.25, 0.5, 1 / 3, 0.75], [0.9, 0.5, 0.4, -0.3]], "float32"),
    }
    found = {key: keras.ops.convert_to_numpy(x) for key, x in model.decode(raw).items()}
    np.testing.assert_allclose(found["boxes"][:, 0], [[8, 8, 40, 56], [67.2, 32, 96, 32]], atol=1e-3)
    assert found["labels"].tolist() == [[1], [0]]
    np.testing.assert_allclose(found["scores"], [[np.exp(3) / (2 + np.exp(3))], [1 / 3]], rtol=1e-5)
    assert found["num_detections"].tolist() == [1, 1]
    unsure = tiny(width=0.1, score_threshold=0.5).decode(raw)
    assert keras.ops.convert_to_numpy(unsure["num_detections"]).tolist() == [1, 0]
    assert keras.ops.convert_to_numpy(unsure["labels"]).tolist() == [[1], [-1]]
    assert not keras.ops.convert_to_numpy(unsure["boxes"])[1].any()


def test_an_untrained_network_says_the_middle_of_the_image():
    found = tiny().detect(np.zeros((2, 64, 96, 3), "uint8"))
    assert found["boxes"].shape == (2, 1, 4)
    assert found["num_detections"].tolist() == [1, 1]


def test_what_holds_for_every_detector(check_detector, random_batch, tmp_path):
    check_detector(tiny, random_batch, tmp_path)


def test_tiny_localizer_overfits_a_handful_of_images(rectangles):
    keras.utils.set_random_seed(0)
    images, targets = rectangles(count=12, boxes=1)
    model = Localizer(2, (64, 96), "tiny", width=0.5, dropout=0.0)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, 100)))
    model.fit(images, targets, batch_size=12, epochs=100, verbose=0)
    result = kzoo.metrics.evaluate(model, (images, targets), metric=kzoo.metrics.Localization())
    assert result["accuracy"] == 1.0
    assert result["mean_IoU"] > 0.8


def test_create_knows_the_localizer_and_faults_are_named():
    model = kzoo.models.create("localizer", 2, backbone="mobilenet", width=0.25, image_size=(96, 64), units=())
    assert model.count_params() < 400_000
    assert "AlexNet" in kzoo.models.info("localizer")["paper"]
    with pytest.raises(ValueError, match="Did you mean 'largest'"):
        tiny(target="larges")
    with pytest.raises(ValueError, match="at least 67 x 67"):
        Localizer(2, 60)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        Localizer(0)

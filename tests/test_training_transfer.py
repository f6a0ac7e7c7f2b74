"""Fine-tuning: what fits is taken over, what does not is listed."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training import load_matching_weights


def network(classes, named=True, width=4):
    def name(text):
        return text if named else None

    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(width, 3, name=name("trunk"))(images)
    x = keras.layers.BatchNormalization(name=name("norm"))(x)
    x = keras.layers.Conv2D(width, 3, name=name("extra"))(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    boxes = keras.layers.Dense(4, name=name("boxes"))(x)
    model = keras.Model(images, [keras.layers.Dense(classes, name=name("classes"))(x), boxes])
    rng = np.random.default_rng(classes)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    return model


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("named", [True, False])
def test_all_but_the_class_head_is_taken_over(tmp_path, suffix, named):
    source, model = network(3, named), network(5, named)
    path = tmp_path / f"trained{suffix}"
    source.save(path) if suffix == ".keras" else source.save_weights(path)
    before = model.layers[-1 if model.layers[-1].output.shape[-1] == 5 else -2].get_weights()
    report = load_matching_weights(model, path)
    assert len(report.transferred) == 10
    assert len(report.kept) == 2
    for weight, other in zip(model.weights, source.weights, strict=True):
        if weight.shape == other.shape:
            np.testing.assert_array_equal(weight, other)
    after = model.layers[-1 if model.layers[-1].output.shape[-1] == 5 else -2].get_weights()
    for weight, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(weight, other)
    assert "10 of 12 weights taken over" in str(report)


def test_the_report_names_both_shapes(tmp_path):
    network(3).save(tmp_path / "trained.keras")
    report = load_matching_weights(network(5), tmp_path / "trained.keras")
    assert report.kept == {"classes/kernel": "4 x 5, in the file 4 x 3", "classes/bias": "5, in the file 3"}
    assert report.unused == []


def test_the_report_stays_short(tmp_path):
    network(3).save(tmp_path / "trained.keras")
    text = str(load_matching_weights(network(5, width=8), tmp_path / "trained.keras"))
    assert text.startswith(f"{tmp_path / 'trained.keras'}: 1 of 12 weights taken over; new from scratch: ")
    assert text.endswith("), ....")
    assert text.count("in the file") == 6


def test_classes_of_other_names_are_told(tmp_path):
    def detector(names):
        return kzoo.models.create("ssd", 2, image_size=64, backbone="tiny", width=0.25, levels=2, class_names=names)

    detector(["cat", "dog"]).save(tmp_path / "trained.keras")
    same, other = (
        load_matching_weights(detector(names), tmp_path / "trained.keras") for names in (["cat", "dog"], ["dog", "cat"])
    )
    assert "other names" not in str(same)
    assert str(other).endswith("Its classes have other names or another order: train on before you use the network.")


def test_weights_that_are_only_in_the_file_are_listed(tmp_path):
    source = network(3)
    source.save(tmp_path / "trained.keras")
    trunk = keras.Model(source.input, keras.layers.Dense(7, name="new")(source.get_layer("norm").output))
    report = load_matching_weights(keras.models.clone_model(trunk), tmp_path / "trained.keras")
    assert len(report.transferred) == 6
    assert {path.split("/")[0] for path in report.unused} == {"extra", "boxes", "classes"}
    assert set(report.kept) == {"new/kernel", "new/bias"}


def test_a_file_that_fits_nowhere_is_refused(tmp_path):
    network(3, width=6).save(tmp_path / "other.keras")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(9, name="lonely")])
    with pytest.raises(ValueError, match="no weight fits"):
        load_matching_weights(model, tmp_path / "other.keras")


@pytest.mark.parametrize("name", ["gone.keras", "broken.keras", "broken.weights.h5"])
def test_a_missing_or_broken_file_is_named_and_the_network_left_as_it_was(tmp_path, name):
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"nothing")
    model = network(3)
    before = model.get_weights()
    with pytest.raises(ValueError, match=name):
        load_matching_weights(model, tmp_path / name)
    for weight, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, other)


@pytest.mark.parametrize(
    ("name", "options"),
    [("ssd", {"levels": 2}), ("retinanet", {"channels": 8, "last_level": 5}), ("yolo", {}), ("localizer", {})],
)
def test_a_single_shot_model_of_more_classes_says_the_same_boxes(name, options, tmp_path):
    source, model = (
        kzoo.models.create(name, classes, image_size=64, backbone="tiny", width=0.25, **options) for classes in (2, 4)
    )
    source.save(tmp_path / "trained.keras")
    report = load_matching_weights(model, tmp_path / "trained.keras")
    assert report.kept
    assert all("classes" in path for path in report.kept)
    assert report.unused == []
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3))
    before, after = (np.asarray(network(images)["boxes"]) for network in (source, model))
    np.testing.assert_array_equal(after, before)
    assert np.ptp(before) > 0

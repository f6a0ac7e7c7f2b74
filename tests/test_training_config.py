"""The settings of a training: ranges, names, and what config.yaml keeps."""

from pathlib import Path

import pytest

from kzoo.training import TrainConfig


def test_what_is_saved_is_read_back(tmp_path):
    config = TrainConfig(data="bccd", image_size=(160, 200), backbone="tiny", ema=0.99, val_split=0.1, name="zellen-ä")
    config.augment, config.model_options = ["flip"], {"width": 0.5}
    config.save(tmp_path / "config.yaml")
    assert TrainConfig.load(tmp_path / "config.yaml") == config


def test_a_path_is_kept_as_text(tmp_path):
    config = TrainConfig(data=Path("some/voc"), weights=Path("runs/ssd"))
    config.save(tmp_path / "config.yaml")
    assert TrainConfig.load(tmp_path / "config.yaml").data == "some/voc"
    assert config.weights == "runs/ssd"


def test_an_unknown_setting_is_answered_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"Unknown training setting 'learningrate'\. Did you mean 'learning_rate'"):
        TrainConfig.from_dict({"learningrate": 1e-3})


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("optimizer", "adamax", "Did you mean 'adam"),
        ("schedule", "cosin", "Did you mean 'cosine'"),
        ("precision", "float16", "mixed_float16"),
        ("epochs", 0, "1, 2, 3"),
        ("batch_size", 2.5, "1, 2, 3"),
        ("batch_size", True, "1, 2, 3"),
        ("learning_rate", 0.0, "> 0"),
        ("learning_rate", float("nan"), "> 0"),
        ("ema", 1.0, "below 1"),
        ("warmup_epochs", -1, ">= 0"),
        ("image_size", (300, 300, 3), "height, width"),
        ("image_size", "big", "height, width"),
        ("backbone", 50, "text"),
        ("model_options", ["width"], "names and values"),
        ("augment", None, "true, false"),
        ("limit", 0, "1, 2, 3"),
        ("val_split", 1.0, "fraction"),
        ("xla", "yes", "'auto'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(key, value, hint):
    with pytest.raises(ValueError, match=key) as error:
        TrainConfig.from_dict({key: value})
    assert hint in str(error.value)


@pytest.mark.parametrize("text", ["- a\n- list\n", "", "epochs: [1\n", "epochz: 3\n", "!!python/object:os.system {}\n"])
def test_a_broken_config_file_is_named(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        TrainConfig.load(path)


def test_fine_tuning_starts_gentler_than_training_from_scratch():
    assert TrainConfig(weights="imagenet").peak_learning_rate < TrainConfig().peak_learning_rate
    assert TrainConfig(weights="imagenet", learning_rate=0.3).peak_learning_rate == 0.3

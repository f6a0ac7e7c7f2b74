"""A folder without splits: trained on but for what is held out, and scored on that; others are scored whole."""

import json

import pytest
from made_data import masks

pytest.importorskip("tensorflow")

from kzoo import cli
from kzoo.cli import after, targets, train
from kzoo.data.readers import NoSplitsError
from kzoo.training import TrainConfig
from kzoo.training.sources import Feed, read_named, read_or_hold_out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return masks(tmp_path_factory.mktemp("data"), images=8, splits=("",))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    runs = tmp_path_factory.mktemp("runs")
    size = "--image-size 32x48 --option padding=same --option width=0.1 --option depth=1 --epochs 1 --batch-size 3"
    command = f"train unet --data {data} {size} --val-split 0.25 --augment none --run-dir {runs} --name s"
    assert cli.run(command.split()) == 0
    return runs / "s"


def names(annotations) -> set[str]:
    return {sample.name for sample in annotations.samples}


def test_the_usual_splits_become_a_tenth_and_the_rest(data):
    config, train, held_out = read_or_hold_out(TrainConfig(model="unet", data=str(data)))
    assert (config.split, config.val_split, held_out.split) == (None, 0.1, "held out")
    assert (len(train.samples), len(held_out.samples)) == (7, 1)
    assert not names(train) & names(held_out)
    again, *parts = read_or_hold_out(config)
    assert again is config
    assert [names(part) for part in parts] == [names(train), names(held_out)]


def test_what_was_chosen_stays(data):
    for chosen, count in ((0.5, 4), (None, 8)):
        config, train, _ = read_or_hold_out(TrainConfig(model="unet", data=str(data), val_split=chosen))
        assert (config.split, config.val_split, len(train.samples)) == (None, chosen, count)


@pytest.mark.parametrize("wrong", [{"split": "trainval"}, {"val_split": "test"}, {"split": None, "val_split": "test"}])
def test_other_splits_are_refused(data, wrong):
    with pytest.raises(NoSplitsError, match="has no splits"):
        read_or_hold_out(TrainConfig(model="unet", data=str(data), **wrong))


def test_a_split_that_is_missing_among_others_is_none_of_this(tmp_path):
    data = masks(tmp_path, images=1, splits=("train", "test"))
    with pytest.raises(ValueError, match=r"Valid: test, train.*val_split=0\.1") as error:
        read_or_hold_out(TrainConfig(model="unet", data=str(data)))
    assert not isinstance(error.value, NoSplitsError)


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    return masks(tmp_path_factory.mktemp("patients"), images=2, splits=tuple(f"patient {n}" for n in range(12)))


def parts(annotations) -> set[str]:
    return {part for sample in annotations.samples for part in sample.splits}


def test_a_folder_a_patient_is_no_split_and_is_held_out_whole(patients):
    config, train, held_out = read_or_hold_out(TrainConfig(model="unet", data=str(patients)))
    assert (config.split, config.val_split, len(train.samples), len(held_out.samples)) == (None, 0.1, 22, 2)
    assert (len(parts(train)), len(parts(held_out))) == (11, 1)
    _, _, other = read_or_hold_out(TrainConfig(model="unet", data=str(patients), seed=1))
    _, train, third = read_or_hold_out(TrainConfig(model="unet", data=str(patients), val_split=0.3))
    assert (len(third.samples), len(parts(third)), len(parts(train))) == (8, 4, 8)  # 7.2 would do
    assert len({*parts(held_out), *parts(other), *parts(third)}) > 4
    with pytest.raises(ValueError, match=r"val_split=0\.97 of 24 images leaves none"):
        read_or_hold_out(TrainConfig(model="unet", data=str(patients), val_split=0.97))


def test_a_part_can_be_named_and_parts_are_named_in_errors(patients):
    read = TrainConfig(model="unet", data=str(patients), split="patient 3", val_split="patient 4")
    assert [parts(one) for one in read_named(read)] == [{"patient 3"}, {"patient 4"}]
    with pytest.raises(NoSplitsError, match=r"one of its parts: patient 0, patient 1, .*, \.\.\.\. To validate"):
        read_named(TrainConfig(model="unet", data=str(patients), split="patient 3"))


@pytest.mark.parametrize(("text", "meant"), [("02", "02"), ("0.2", 0.2), (".5", 0.5), ("v1.0", "v1.0"), (None, None)])
def test_a_number_without_a_point_names_a_part(text, meant):
    assert train._val_split(text) == meant


@pytest.mark.parametrize("names", [("01", "02"), ("train", "val")])
def test_few_parts_and_splits_are_held_out_by_images(tmp_path, names):
    data = masks(tmp_path, images=10, splits=names)
    config = TrainConfig(model="unet", data=str(data), split=None, val_split=0.1 if names[0] == "01" else 0.5)
    _, held_out = read_named(config)
    assert (len(held_out.samples), parts(held_out)) == (round(config.val_split * 20), set(names))


def test_splits_in_names_of_one_s_own_are_asked_for(tmp_path):
    data = masks(tmp_path, images=1, splits=("train_imgs", "val_imgs"))
    with pytest.raises(ValueError, match=r"Unknown split 'train'.*train_imgs, val_imgs") as error:
        read_or_hold_out(TrainConfig(model="unet", data=str(data)))
    assert not isinstance(error.value, NoSplitsError)


def test_nothing_is_held_out_where_a_validation_set_is_given(data):
    feed = Feed(TrainConfig(model="unet", data=str(data)), None, "a data set", "segmentation", start_epoch=0)
    assert (feed.config.split, feed.config.val_split, len(feed.annotations.samples)) == (None, None, 8)


def test_a_run_is_scored_on_what_it_held_out(trained, capsys):
    config = targets.config(trained)
    assert (config["split"], config["val_split"]) == (None, 0.25)
    evaluation = json.loads((trained / "evaluation.json").read_text())
    assert (evaluation["split"], evaluation["images"]) == ("held out", 2)
    assert cli.run(["evaluate", str(trained)]) == 0
    assert "2 images" in capsys.readouterr().out
    assert json.loads((trained / "evaluation.json").read_text())["scores"] == evaluation["scores"]
    assert cli.run(["evaluate", str(trained), "--limit", "1"]) == 0
    assert "1 image (" in capsys.readouterr().out
    other = ["evaluate", str(trained), "--data-option", "values=[0,1,7]", "--output", str(trained.parent / "other")]
    assert cli.run([*other, "--json", str(trained.parent / "other.json")]) == 0
    rows = json.loads((trained.parent / "other.json").read_text())["per_class"]
    assert sum(row["pixels"] for row in rows) < sum(row["pixels"] for row in evaluation["per_class"])
    assert cli.run(["evaluate", str(trained), "--split", "test"]) == 2
    assert "has no splits" in capsys.readouterr().err


def test_a_file_is_scored_on_all(trained, data, capsys):
    assert cli.run(["evaluate", str(trained / "best.keras"), "--data", str(data)]) == 0
    said = capsys.readouterr()
    assert "8 images" in said.out
    assert "all of it is taken" in said.err


def test_an_export_is_checked_and_calibrated_with_the_runs_own_parts(trained, data):
    detector = targets.load(trained)
    held_out = read_named(TrainConfig(**targets.config(trained)))[1]
    for given in (None, str(data)):
        checked = after.evaluation_data(trained, detector, given, None)
        assert names(checked.annotations) == names(held_out)
    file = trained / "best.keras"
    assert len(after.evaluation_data(file, targets.load(file), str(data), None).annotations.samples) == 8
    assert not names(after.calibration_data(trained, detector, None).annotations) & names(held_out)
    assert len(after.calibration_data(file, targets.load(file), str(data)).annotations.samples) == 8

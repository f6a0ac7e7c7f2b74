"""A folder without splits: trained on but for what is held out, and scored on that; others are scored whole."""

import json

import pytest
from made_data import masks

pytest.importorskip("tensorflow")

from kzoo import cli
from kzoo.cli import after, targets
from kzoo.data.readers import NoSplitsError
from kzoo.training import TrainConfig
from kzoo.training.sources import read_named, read_or_hold_out


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


def test_a_run_is_scored_on_what_it_held_out(trained, capsys):
    config = targets.config(trained)
    assert (config["split"], config["val_split"]) == (None, 0.25)
    evaluation = json.loads((trained / "evaluation.json").read_text())
    assert (evaluation["split"], evaluation["images"]) == ("held out", 2)
    assert cli.run(["evaluate", str(trained)]) == 0
    assert "2 images" in capsys.readouterr().out
    assert json.loads((trained / "evaluation.json").read_text())["scores"] == evaluation["scores"]
    assert cli.run(["evaluate", str(trained), "--limit", "1"]) == 0
    assert "1 images" in capsys.readouterr().out
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

"""The command line with Fast R-CNN, whose data bring proposals beside the images."""

import json

import numpy as np
import pytest
from made_data import voc

import kzoo
from kzoo import cli
from kzoo.data.readers import read
from kzoo.proposals import write_file
from kzoo.training import TrainConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return voc(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def proposals(data, tmp_path_factory):
    """A file of regions: each object's box and nine that were moved by up to a third of it."""
    rng = np.random.default_rng(0)
    moves = [rng.uniform(-8, 8, (9, 2)).astype("float32") for _ in range(6)]
    found = {
        sample.name: np.concatenate([sample.boxes, sample.boxes + np.tile(move, 2)]).clip(0, [96, 64, 96, 64])
        for sample, move in zip(read(data, "train").samples, moves, strict=True)
    }
    return write_file(tmp_path_factory.mktemp("regions") / "regions.npz", found)


@pytest.fixture(scope="module")
def trained(data, proposals, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    command = f"train fast_rcnn --data {data} --data-option proposals={proposals} --run-dir {runs} --name r"
    size = "--backbone tiny --image-size 64x96 --epochs 30 --batch-size 3 --augment none --validate-every 15"
    assert cli.run([*command.split(), *size.split()]) == 0
    return runs / "r"


def test_fast_rcnn_is_trained_by_name_and_scored_among_its_proposals(trained):
    evaluation = json.loads((trained / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["scores"]["mAP@0.50"] > 0.9
    assert (trained / "report.html").is_file()
    assert TrainConfig.load(trained / "config.yaml").data_options["proposals"].endswith("regions.npz")


def test_a_run_is_evaluated_and_resumed_with_its_own_proposals(trained, capsys):
    assert cli.run(["evaluate", str(trained), "--split", "test"]) == 0
    assert "6 images" in capsys.readouterr().out
    assert cli.run(["train", "--resume", str(trained), "--epochs", "31", "--no-report"]) == 0
    assert "epoch 31/31" in capsys.readouterr().out


def test_a_loaded_file_looks_at_the_proposals_given(trained, data, proposals):
    detector = kzoo.export.load(trained)
    batches = kzoo.data.load(data, "test", (64, 96), 6, proposals=proposals)
    images, targets = next(iter(batches))
    regions = np.asarray(targets["proposals"])
    found = detector.detect(np.asarray(images), regions)
    again = detector.model.detect(np.asarray(images), regions)
    for key, value in found.items():
        np.testing.assert_array_equal(value, again[key])
    nothing = detector.detect(np.asarray(images), np.zeros_like(regions))
    assert (nothing["num_detections"] == 0).all()
    assert (found["num_detections"] > 0).all()


def test_a_refused_export_leaves_nothing_behind(trained, capsys):
    before = sorted(trained.rglob("*"))
    assert cli.run(["export", str(trained), "--no-verify"]) == 2
    assert "proposals" in capsys.readouterr().err
    assert sorted(trained.rglob("*")) == before


def test_proposals_are_refused_where_nothing_takes_them(data, tmp_path, capsys):
    command = (
        f"train ssd --data {data} --backbone tiny --image-size 64 --run-dir {tmp_path} --data-option proposals=fast"
    )
    assert cli.run(command.split()) == 2
    assert "ssd takes no proposals" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_file_of_proposals_is_named_before_a_folder_is_made(data, tmp_path, capsys):
    command = f"train fast_rcnn --data {data} --backbone tiny --image-size 64 --run-dir {tmp_path}"
    assert cli.run([*command.split(), "--data-option", "proposals=fats"]) == 2
    assert "Did you mean 'fast'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_fast_rcnn_is_fine_tuned_at_a_rate_of_its_own():
    usual = TrainConfig(model="ssd", weights="imagenet").peak_learning_rate
    assert TrainConfig(model="fast_rcnn", weights="imagenet").peak_learning_rate == 1e-4 < usual

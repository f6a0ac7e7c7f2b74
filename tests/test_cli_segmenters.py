"""The commands on a segmenter of the smallest size: what follows a training, and files alike."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_data import masks
from PIL import Image

pytest.importorskip("tensorflow")

from kzoo import cli, run_files


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return masks(tmp_path_factory.mktemp("data"), images=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    runs = tmp_path_factory.mktemp("runs")
    command = (
        f"train unet --data {data} --image-size 32x48 --option padding=same --option width=0.1 --option depth=1 "
        f"--epochs 1 --batch-size 3 --class-balance median --augment flip --run-dir {runs} --name s"
    )
    assert cli.run(command.split()) == 0
    return runs / "s"


def test_a_training_leaves_the_whole_run_folder(trained):
    written = {path.name for path in trained.iterdir()}
    assert set(run_files.PICTURES.values()) - {"precision_recall.png", "f1.png"} <= written
    evaluation = json.loads((trained / run_files.EVALUATION).read_text())
    assert [row["class"] for row in evaluation["per_class"]] == ["ground", "bright", "dark"]
    assert sum(row["pixels"] for row in evaluation["per_class"]) == 3 * 46 * 64  # in pixels of the original images
    assert all("boundary F1" in row for row in evaluation["per_class"])
    assert 0 <= evaluation["scores"]["mean_boundary_f1"] <= 1
    text = (trained / run_files.REPORT).read_text(encoding="utf-8")
    assert "mIoU (val)" in text
    assert "void hatched" in text


def test_an_exported_file_scores_as_its_run_and_labels_images(trained, data, tmp_path, capsys):
    assert cli.run(["export", str(trained), "--images", "2"]) == 0
    exported = trained / "exports" / "s.tflite"
    scores = []
    for name, model in (("a", trained), ("b", exported)):
        arguments = ["evaluate", model, "--data", data, "--json", tmp_path / name, "--limit", 2, "--cells"]
        assert cli.run([str(one) for one in arguments]) == 0
        scores.append(json.loads((tmp_path / name).read_text())["scores"])
    assert scores[0]["mIoU"] == pytest.approx(scores[1]["mIoU"], abs=1e-3)
    assert scores[0]["objects"] == 4  # a bright and a dark square in each image
    assert {"rand_fscore", "warping_error", "SEG"} <= set(scores[1])
    capsys.readouterr()
    assert cli.run(["predict", str(exported), str(data / "test" / "images"), "-o", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [Path(one["file"]).name for one in found["images"]] == ["0.png", "1.png", "2.png"]
    for one in found["images"]:
        labels = np.asarray(Image.open(one["mask"]))
        assert labels.shape == (48, 64)
        assert labels.max() < 3
        assert sum(entry["pixels"] for entry in one["classes"]) == labels.size
        assert Path(one["picture"]).is_file()
    assert cli.run(["benchmark", str(exported), "--runs", "1"]) == 0


def test_check_counts_pixels_of_masks(data, capsys):
    assert cli.run(["check", str(data), "--strict", "--data-option", "void=2"]) == 0
    assert cli.run(["check", str(data), "--data-option", "fit=crop"]) == 2
    assert "bright" in capsys.readouterr().out

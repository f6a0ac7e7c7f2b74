"""Settings that cannot be are refused before a run begins; and a run finds its data from anywhere."""

import json
import re

import pytest
from cli_checks import fails
from made_data import voc

from kzoo import cli


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--option", "num_classes=5"], "num_classes is no option of the model here"),
        (["--option", "backbone=mobilenet"], "backbone is no option"),
        (["--option", "width=abc"], "options {'width': 'abc'} do not fit"),
        (["--weights", "runs/nowhere"], "no such file or folder. Give imagenet, a run's folder"),
    ],
)
def test_wrong_settings_of_the_network_get_one_line(capsys, tmp_path, options, remedy):
    data, runs = voc(tmp_path / "squares", images=2), tmp_path / "runs"
    command = f"train ssd --data {data} --backbone tiny --image-size 64 --run-dir {runs}"
    assert remedy in fails(capsys, *command.split(), *options)
    assert not runs.exists()


def test_data_without_any_class_is_refused(capsys, tmp_path):
    empty = voc(tmp_path / "empty", images=2)
    for path in (empty / "Annotations").iterdir():
        path.write_text(re.sub("<object>.*</object>", "", path.read_text()))
    line = fails(capsys, "train", "ssd", "--data", empty, "--image-size", "64", "--run-dir", tmp_path / "runs")
    assert "holds no object of any class" in line


def test_a_run_finds_its_data_from_any_folder_and_where_it_has_moved_to(capsys, tmp_path, monkeypatch):
    root = voc(tmp_path / "work" / "squares", images=4)
    monkeypatch.chdir(root.parent)
    settings = "--backbone tiny --image-size 64 --batch-size 2 --run-dir runs --name r --no-report"
    assert cli.run(f"train ssd --data squares --epochs 1 {settings}".split()) == 0
    run = root.parent / "runs" / "r"
    monkeypatch.chdir(tmp_path)
    assert cli.run(["evaluate", str(run)]) == 0
    written = (run / "evaluation.json").read_text()
    monkeypatch.chdir(root.parent)
    (run / "evaluation.json").unlink()
    assert cli.run(["evaluate", str(run), "--data", "squares/"]) == 0  # the run's own, whatever it is called
    assert json.loads((run / "evaluation.json").read_text())["scores"] == json.loads(written)["scores"]
    root.rename(tmp_path / "moved")
    capsys.readouterr()
    assert "not there any more. Add --data" in fails(capsys, "evaluate", run)
    moved = str(tmp_path / "moved")
    assert cli.run(["train", "--resume", str(run), "--data", moved, "--epochs", "2", "--no-report"]) == 0
    assert f"data: {moved}" in (run / "config.yaml").read_text()
    other = voc(tmp_path / "other", images=2)
    for path in (other / "Annotations").iterdir():
        path.write_text(path.read_text().replace("dark", "grey"))
    line = fails(capsys, "train", "--resume", run, "--data", other, "--epochs", "3")
    assert "has learned bright, dark, and the data holds bright, grey" in line

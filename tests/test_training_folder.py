"""The run folder: numbered, never overwritten, each file whole; and what the terminal says meanwhile."""

import csv
import errno
import io
import json

import keras
import pytest
import yaml
from rich.console import Console
from training_standin import Batches, StandIn

from kzoo.training import Run, train
from kzoo.training.folder import new_folder, read_results, replacing, write_rows
from kzoo.training.progress import EpochProgress, duration


def test_a_run_holds_config_results_state_environment_and_both_networks(tmp_path):
    run = train(StandIn(), Batches, validation=Batches(shuffle=False), run_dir=tmp_path, epochs=2, seed=7, quiet=True)
    assert run.folder == tmp_path / "stand_in"
    files = {"config.yaml", "results.csv", "state.json", "environment.json", "best.keras", "last.keras"}
    assert {path.name for path in run.folder.iterdir()} == files
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["seed"] == 7
    state = json.loads((run.folder / "state.json").read_text())
    assert (state["epoch"], state["seed"], state["stopped"]) == (2, 7, "all epochs done")
    assert json.loads((run.folder / "environment.json").read_text())["keras"] == keras.__version__
    with open(run.folder / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"loss", "class_loss", "box_loss", "val_loss", "learning_rate", "seconds"} <= rows[0].keys()


def test_a_taken_name_is_numbered(tmp_path):
    assert [new_folder(tmp_path, "ssd").name for _ in range(3)] == ["ssd", "ssd-2", "ssd-3"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "/x"])
def test_a_name_that_leaves_the_run_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="plain folder name"):
        new_folder(tmp_path, name)


def test_a_run_is_found_by_folder_and_by_name(tmp_path):
    made = new_folder(tmp_path, "ssd")
    (made.folder / "config.yaml").write_text("epochs: 3\n")
    assert Run.open(made.folder) == Run.open("ssd", tmp_path) == made
    assert made.config.epochs == 3
    with pytest.raises(ValueError, match=r"No run at .*ssd9"):
        Run.open("ssd9", tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "disk full")

    with pytest.raises(OSError, match=r"disk full: '.*results.csv'"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_columns_of_rows_are_all_keys_in_order(tmp_path):
    path = tmp_path / "rows.csv"
    write_rows(path, [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 2.0, "val_mAP": 0.5}])
    assert path.read_text() == "epoch,loss,val_mAP\n1,2.5,\n2,2.0,0.5\n"
    assert read_results(path) == [{"epoch": 1.0, "loss": 2.5}, {"epoch": 2.0, "loss": 2.0, "val_mAP": 0.5}]
    assert read_results(tmp_path / "none.csv") == []


def test_validation_runs_every_n_epochs_and_after_the_last(tmp_path):
    run = train(
        StandIn(),
        Batches,
        validation=Batches(shuffle=False),
        run_dir=tmp_path,
        epochs=5,
        validate_every=3,
        quiet=True,
        warmup_epochs=0,
    )
    assert [row["epoch"] for row in run.results if "val_loss" in row] == [3, 5]


def test_without_validation_the_last_epoch_is_the_best(tmp_path):
    run = train(StandIn(), Batches, run_dir=tmp_path, epochs=2, quiet=True)
    assert (run.state["best_epoch"], run.state["best_score"]) == (2, None)
    assert run.model.get_layer("conv").weights


def test_tensorboard_logs_lie_in_the_run(tmp_path):
    pytest.importorskip("tensorboard")
    run = train(StandIn(), Batches, run_dir=tmp_path, epochs=1, quiet=True, tensorboard=True)
    assert list((run.folder / "tensorboard").rglob("events*"))


def test_data_is_needed():
    with pytest.raises(ValueError, match="No data to train on"):
        train(StandIn(), quiet=True)


def test_a_wrong_setting_makes_no_run_folder(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'learning_rate'"):
        train(StandIn(), Batches, run_dir=tmp_path, learning_rat=1e-3, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_log_has_one_line_an_epoch_with_losses_rate_and_time_left(tmp_path, capsys):
    train(StandIn(), Batches, validation=Batches(shuffle=False), run_dir=tmp_path, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("run folder:")
    assert lines[3].startswith("all epochs done; best epoch")
    for number, line in enumerate(lines[1:3], start=1):
        assert line.startswith(f"epoch {number}/2  ")
        for part in ("class_loss ", "box_loss ", "val_loss ", "learning_rate ", " left"):
            assert part in line
        assert "\x1b" not in line
        assert "val_class_loss" not in line


def test_a_terminal_gets_a_bar_with_losses_and_learning_rate():
    text = io.StringIO()
    progress = EpochProgress(3, 2, Console(file=text, force_terminal=True, width=80), rate=lambda epoch, step: 0.125)
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, {"class_loss": 1.5})
    progress.bar.refresh()
    progress.on_epoch_end(0, {"class_loss": 1.5})
    assert progress.bar is None
    assert "epoch 1/3" in text.getvalue()
    assert "class 1.5 lr 0.125" in text.getvalue()


def test_durations_read_naturally():
    assert [duration(s) for s in (0.2, 59.6, 185, 7620)] == ["0s", "1m 00s", "3m 05s", "2h 07m"]

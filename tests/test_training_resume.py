"""A run that stops and goes on is the run that never stopped, bit for bit."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from training_standin import Batches, StandIn

from kzoo.training import Run, train
from kzoo.training.network import precision_policy

SETTINGS = {"seed": 3, "ema": 0.9, "epochs": 4, "learning_rate": 1e-2, "quiet": True}


class StopBefore(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def everything_in(path):
    """Every array in a .keras file (weights, moments, averages, step counter, loss scale) and the training's state."""
    with zipfile.ZipFile(path) as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            names: list[str] = []
            file.visit(names.append)
            arrays = {name: file[name][()] for name in names if isinstance(file[name], h5py.Dataset)}
        return arrays, json.loads(archive.read("kzoo_state.json"))


def assert_same(one, other):
    (arrays, state), (other_arrays, other_state) = everything_in(one), everything_in(other)
    assert arrays.keys() == other_arrays.keys()
    assert any(name.startswith("optimizer") for name in arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, other_arrays[name], err_msg=name)
    assert state == other_state
    assert state["seed_states"]


def fixed():
    return Batches(shuffle=False)


def make(precision="float32", norm=True):
    keras.utils.set_random_seed(1)
    with precision_policy(precision):
        return StandIn(norm=norm)


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("adamw", "float32"), ("sgd", "mixed_bfloat16"), ("adamw", "mixed_float16")]
)
def test_two_epochs_and_two_resumed_ones_are_four_epochs(tmp_path, optimizer, precision):
    settings = {**SETTINGS, "run_dir": tmp_path, "optimizer": optimizer}
    straight = train(make(precision), Batches, validation=fixed(), **settings)
    with pytest.raises(KeyboardInterrupt):
        train(make(precision), Batches, validation=fixed(), callbacks=[StopBefore(2)], name="b", **settings)
    keras.utils.set_random_seed(99)  # nothing of the process that stopped is left
    resumed = train(resume=tmp_path / "b", data=Batches, validation=fixed(), quiet=True)
    assert_same(straight.last, resumed.last)
    assert [row["epoch"] for row in resumed.results] == [1, 2, 3, 4]
    for row, other in zip(straight.results, resumed.results, strict=True):
        assert {**row, "seconds": 0} == pytest.approx({**other, "seconds": 0}, rel=1e-5)
    assert straight.config.precision == precision
    assert keras.config.dtype_policy().name == "float32"


def test_best_holds_the_averages_and_last_the_raw_weights(tmp_path):
    network = make()
    run = train(network, Batches, validation=fixed(), run_dir=tmp_path, **SETTINGS)
    last = keras.models.load_model(run.last)
    averages = last.optimizer._model_variables_moving_average
    assert run.state["best_epoch"] == 4
    for best, raw, average in zip(run.model.trainable_variables, last.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(best, average)
        assert not np.array_equal(best, raw)


def test_best_is_a_network_without_optimizer(tmp_path):
    run = train(make(), Batches, validation=fixed(), run_dir=tmp_path, **SETTINGS)
    assert not keras.models.load_model(run.best).compiled
    assert run.best.stat().st_size < run.last.stat().st_size


def test_more_epochs_continue_a_complete_run_and_nothing_else_may_change(tmp_path):
    run = train(make(), Batches, run_dir=tmp_path, **{**SETTINGS, "epochs": 1})
    same = train(resume=run, data=Batches, quiet=True)
    assert (len(same.results), same.state["stopped"]) == (1, "all epochs done")
    longer = train(resume=run, data=Batches, epochs=2, quiet=True)
    assert len(longer.results) == longer.config.epochs == 2
    with pytest.raises(ValueError, match=r"seed 3 -> 4.*new run with weights="):
        train(resume=run, data=Batches, seed=4, quiet=True)


def test_an_optimizer_that_was_edited_in_is_told(tmp_path):
    run = train(make(), Batches, run_dir=tmp_path, **{**SETTINGS, "epochs": 1, "optimizer": "adamw"})
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("optimizer: adamw", "optimizer: sgd"))
    with pytest.raises(ValueError, match=r"last.keras: does not fit \(.*config.yaml edited"):
        train(resume=run.folder, data=Batches, epochs=2, quiet=True)


def test_fewer_epochs_than_done_are_said(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        train(make(), Batches, callbacks=[StopBefore(1)], name="b", run_dir=tmp_path, **{**SETTINGS, "epochs": 3})
    train(resume=tmp_path / "b", data=Batches, epochs=1)
    assert "complete after epoch 1 (1 were asked for)" in capsys.readouterr().out


def test_data_made_in_python_must_be_given_again(tmp_path):
    run = train(make(), Batches, run_dir=tmp_path, **{**SETTINGS, "epochs": 1})
    with pytest.raises(ValueError, match="give it again"):
        train(resume=run, epochs=2, quiet=True)


def test_early_stopping_counts_across_a_resume(tmp_path):
    settings = {**SETTINGS, "epochs": 9, "early_stopping": 3, "learning_rate": 1e-30, "ema": 0.0, "run_dir": tmp_path}
    # Without normalisation and almost without learning rate nothing moves: the first epoch stays the best.
    with pytest.raises(KeyboardInterrupt):
        train(make(norm=False), Batches, validation=fixed(), callbacks=[StopBefore(2)], **settings)
    run = train(resume=tmp_path / "stand_in", data=Batches, validation=fixed(), quiet=True)
    assert (run.state["epoch"], run.state["stopped"], run.state["best_epoch"]) == (4, "no better score", 1)
    again = train(resume=run, data=Batches, validation=fixed(), quiet=True)
    assert again.state["epoch"] == 4
    longer = train(resume=run, data=Batches, validation=fixed(), quiet=True, early_stopping=5)
    assert longer.state["epoch"] == 6


def test_early_stopping_judges_only_where_there_is_a_validation(tmp_path):
    settings = {**SETTINGS, "epochs": 20, "early_stopping": 2, "validate_every": 3, "learning_rate": 1e-30, "ema": 0.0}
    run = train(make(norm=False), Batches, validation=fixed(), run_dir=tmp_path, **settings)
    assert (run.state["best_epoch"], run.state["epoch"], run.state["stopped"]) == (3, 6, "no better score")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "text"])
def test_a_damaged_checkpoint_is_named_with_a_way_out(tmp_path, damage):
    run = train(make(), Batches, run_dir=tmp_path, **{**SETTINGS, "epochs": 1})
    content = bytearray(run.last.read_bytes())
    if damage == "truncated":
        run.last.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
        run.last.write_bytes(content)
    elif damage == "text":
        run.last.write_text("no zip")
    else:
        run.last.unlink()
    wanted = "no such file" if damage == "missing" else r"damaged .*new run with weights='.*best\.keras'"
    with pytest.raises(ValueError, match=wanted):
        train(resume=run, data=Batches, epochs=2, quiet=True)


def test_rows_and_files_of_an_epoch_that_was_killed_are_dropped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(make(), Batches, callbacks=[StopBefore(2)], run_dir=tmp_path, **SETTINGS)
    run = Run.open("stand_in", tmp_path)
    with open(run.folder / "results.csv", "a") as file:
        file.write("3,9,9,9,9\n")  # killed between results.csv and last.keras
    (run.folder / ".last.123.tmp.keras").write_bytes(b"half a file")
    train(resume=run, data=Batches, quiet=True)
    assert [row["epoch"] for row in run.results] == [1, 2, 3, 4]
    assert run.results[2]["loss"] != 9
    assert not list(run.folder.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.05, 0.4, 0.9])
def test_a_kill_at_any_moment_loses_at_most_the_epoch_under_way(tmp_path, delay):
    settings = {**SETTINGS, "epochs": 40, "run_dir": tmp_path}
    straight = train(make(), Batches, validation=fixed(), name="straight", **settings)
    process = subprocess.Popen([sys.executable, __file__, str(tmp_path)], cwd=Path(__file__).parents[1])
    results = tmp_path / "killed" / "results.csv"
    deadline = time.monotonic() + 120
    while not results.is_file():
        assert time.monotonic() < deadline, "the training did not start"
        assert process.poll() is None, "the training ended too early"
        time.sleep(0.01)
    time.sleep(delay)
    done = len(Run.open(tmp_path / "killed").results)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = everything_in(tmp_path / "killed" / "last.keras")[1]
    assert state["epoch"] >= done - 1
    assert state["epoch"] < 40, "the training was faster than the kill"
    resumed = train(resume=tmp_path / "killed", data=Batches, validation=fixed(), quiet=True)
    assert_same(straight.last, resumed.last)
    assert [row["epoch"] for row in resumed.results] == list(range(1, 41))


if __name__ == "__main__":
    train(
        make(),
        Batches,
        validation=fixed(),
        name="killed",
        **{**SETTINGS, "epochs": 40, "run_dir": sys.argv[1]},
    )

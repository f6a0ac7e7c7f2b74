"""The mAP callback in a real `fit`, beside Keras' own callbacks."""

import csv

import keras
import numpy as np
import pytest

from kzoo.callbacks import MeanAveragePrecision

BOX = np.array([[[10.0, 10.0, 50.0, 50.0]]], np.float32)


class Learner(keras.Model):
    """Finds the box, moved by ever fewer pixels: mAP rises, epoch by epoch, as `shifts` says."""

    class_names = ("thing", "other")

    def __init__(self, shifts):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.shifts, self.calls = list(shifts), 0

    def call(self, inputs):
        return self.dense(inputs)

    def detect(self, images):
        shift = self.shifts[min(self.calls, len(self.shifts) - 1)]
        self.calls += 1
        boxes = np.repeat(BOX + np.array([shift, 0, shift, 0]), len(images), axis=0)
        labels = np.zeros((len(images), 1), np.int32)
        return {"boxes": boxes, "labels": labels, "scores": labels + 0.9, "num_detections": labels[:, 0] + 1}


DATA = [(np.zeros((1, 8, 8, 3)), {"boxes": BOX, "labels": np.zeros((1, 1), np.int32)})]


def fit(model, callbacks, epochs, **options):
    model.compile(optimizer="sgd", loss="mse", jit_compile=False)
    x = np.ones((4, 2), np.float32)
    return model.fit(x, x[:, :1], epochs=epochs, callbacks=callbacks, verbose=0, **options).history


def test_every_epochs_logs_hold_all_twelve_numbers_and_each_classs_ap():
    callback = MeanAveragePrecision(DATA)
    history = fit(Learner([30, 10, 0]), [callback], epochs=3)
    # IoUs 1/7, 3/5, 1: none, three and all ten of the thresholds are reached.
    assert history["val_mAP"] == pytest.approx([0.0, 0.3, 1.0])
    assert history["val_mAP@0.50"] == pytest.approx([0.0, 1.0, 1.0])
    assert history["val_AP/thing"] == pytest.approx([0.0, 0.3, 1.0])
    assert history["val_AP/other"] == [-1.0] * 3
    expected = {f"val_{key}" for key in callback.last_result if key != "per_class"}
    assert len(expected) == 12
    assert {key for key in history if key.startswith("val_") and "/" not in key} == expected
    assert callback.last_result["per_class"]["thing"]["AP"] == pytest.approx(1.0)


def test_it_measures_every_nth_epoch_and_the_last_and_repeats_the_value_between():
    model = Learner([30, 10, 0])
    history = fit(model, [MeanAveragePrecision(DATA, every=2)], epochs=5)
    assert model.calls == 3
    assert history["val_mAP"] == pytest.approx([-1.0, 0.0, 0.0, 0.3, 1.0])
    assert history["val_AP/thing"] == pytest.approx([-1.0, 0.0, 0.0, 0.3, 1.0])


def test_a_resumed_training_measures_the_same_epochs():
    model = Learner([30, 10, 0])
    history = fit(model, [MeanAveragePrecision(DATA, every=2)], epochs=6, initial_epoch=3)
    assert history["val_mAP"] == pytest.approx([0.0, 0.0, 0.3])


def test_an_epoch_in_which_training_is_stopped_is_the_last():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    history = fit(Learner([0]), [Stop(), MeanAveragePrecision(DATA, every=5)], epochs=9)
    assert history["val_mAP"] == pytest.approx([-1.0, 1.0])


def test_csv_logger_checkpoint_and_early_stopping_see_it(tmp_path):
    model = Learner([30, 10, 0, 10])
    fit(
        model,
        [
            MeanAveragePrecision(DATA, every=2),
            keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
            keras.callbacks.ModelCheckpoint(
                str(tmp_path / "{epoch}.weights.h5"),
                monitor="val_mAP",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
            ),
            keras.callbacks.EarlyStopping(monitor="val_mAP", mode="max", patience=3),
        ],
        epochs=20,
    )
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    values = [float(row["val_mAP"]) for row in rows]
    # Best in epoch 6; three epochs without better end the training.
    assert values == pytest.approx([-1, 0, 0, 0.3, 0.3, 1, 1, 0.3, 0.3])
    assert all(row["val_AR@100"] not in ("", "NA") for row in rows)
    saved = sorted(int(path.name.split(".")[0]) for path in tmp_path.glob("*.weights.h5"))
    assert saved == [1, 2, 4, 6]


def test_other_protocols_prefixes_and_no_classes():
    callback = MeanAveragePrecision(DATA, protocol="voc2007", prefix="test_", per_class=False)
    history = fit(Learner([10]), [callback], epochs=1)
    assert set(history) == {"loss", "test_mAP"}
    assert history["test_mAP"] == pytest.approx([1.0])
    assert callback.last_result["per_class"] == {"thing": {"AP": pytest.approx(1.0)}, "other": {"AP": -1.0}}


def test_without_class_names_only_the_result_holds_classes():
    model = Learner([0])
    model.class_names = None
    callback = MeanAveragePrecision(DATA)
    history = fit(model, [callback], epochs=1)
    assert not any("/" in key for key in history)
    assert list(callback.last_result["per_class"]) == [0]


def test_it_works_outside_of_fit():
    callback, logs = MeanAveragePrecision(DATA), {}
    callback.set_model(Learner([0]))
    callback.on_epoch_end(0, logs)
    assert logs["val_mAP"] == pytest.approx(1.0)
    assert callback.metric.records.num_images == 1


def test_what_cannot_work_is_refused_before_training():
    with pytest.raises(ValueError, match="can be read only once"):
        MeanAveragePrecision(batch for batch in DATA)
    with pytest.raises(ValueError, match="at least 1 epoch"):
        MeanAveragePrecision(DATA, every=0)
    inputs = keras.Input((2,))
    without = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    with pytest.raises(ValueError, match="a model with `detect`; Functional has none"):
        MeanAveragePrecision(DATA).set_model(without)

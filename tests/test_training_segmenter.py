"""A segmenter trained by name on a folder of masks: the same `train` as a detector's, with masks and mean IoU."""

import numpy as np
import pytest
from made_data import masks

pytest.importorskip("tensorflow")

import kzoo.models
from kzoo.callbacks import MeanIoU
from kzoo.training import TrainConfig, train
from kzoo.training.balance import class_weights
from kzoo.training.sources import Feed, batch_options, read_named, task_of

SETTINGS = {
    "image_size": (32, 48),
    "batch_size": 3,
    "learning_rate": 3e-3,
    "model_options": {"padding": "same", "width": 0.125, "depth": 2, "batch_norm": True},
    "quiet": True,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return masks(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    settings = SETTINGS | {"class_balance": "median", "epochs": 4, "augment": "flip"}
    return train("unet", folder, run_dir=tmp_path_factory.mktemp("runs"), **settings)


def test_it_learns_and_is_scored_by_mean_iou(run, folder):
    rows = run.results
    assert {"mask_loss", "val_loss", "val_mIoU", "val_pixel_accuracy", "val_IoU/bright"} <= rows[-1].keys()
    assert run.state["best_score"] == max(row["val_mIoU"] for row in rows)
    assert rows[-1]["mask_loss"] < rows[0]["mask_loss"]
    assert run.model.class_names == ["ground", "bright", "dark"]
    # What the log says is what a measurement in the pixels of the original images says.
    data = kzoo.data.load(folder, "val", image_size=None)
    measured = kzoo.metrics.evaluate(run.model, data)
    assert measured["mIoU"] == pytest.approx(run.state["best_score"], abs=1e-6)


def test_classes_are_weighed_by_the_median_of_their_frequencies(run, folder):
    # Class 1 in two images, class 2 in one of them: frequencies 40/200, 10/100, and class 0: 150/200.
    counts = [[70, 20, 10, 0], [80, 20, 0, 0]]
    assert class_weights("median", counts) == pytest.approx([0.2 / 0.75, 1, 2, 1])
    assert class_weights("root", counts) == pytest.approx([(0.2 / 0.75) ** 0.5, 1, 2**0.5, 1])
    assert class_weights("none", counts) is None
    assert class_weights("median", [[0, 0]]) == [1, 1]
    config = run.config
    expected = class_weights("median", [sample.counts for sample in read_named(config)[0].samples])
    assert run.model.class_weights == pytest.approx(expected)
    assert run.model.pixel_loss == "weighted_cross_entropy"
    assert run.model.class_weights[0] < run.model.class_weights[1]


def test_balance_and_another_loss_exclude_each_other(folder, tmp_path):
    options = SETTINGS["model_options"] | {"loss": "dice"}
    with pytest.raises(ValueError, match="the loss is 'dice': drop one"):
        train("unet", folder, run_dir=tmp_path, **SETTINGS | {"model_options": options, "class_balance": "median"})
    with pytest.raises(ValueError, match="Did you mean 'median'"):
        TrainConfig(class_balance="medain")
    with pytest.raises(ValueError, match="Did you mean 'void'"):
        TrainConfig(data_options={"viod": 11})


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(folder, tmp_path):
    settings = SETTINGS | {"augment": "flip", "schedule": "constant", "warmup_epochs": 0, "limit": 3}
    whole = train("unet", folder, run_dir=tmp_path, name="whole", epochs=2, **settings)
    part = train("unet", folder, run_dir=tmp_path, name="part", epochs=1, **settings)
    train(resume=part, epochs=2, quiet=True)
    for key in ("mask_loss", "val_loss", "val_mIoU"):
        assert [row[key] for row in part.results] == pytest.approx([row[key] for row in whole.results], rel=1e-4)


def test_a_network_of_tiles_is_trained_on_crops(folder):
    valid = kzoo.models.create("unet", 3, image_size=44, depth=2, width=0.1)
    same = kzoo.models.create("unet", 3, image_size=44, depth=2, width=0.1, padding="same")
    config = TrainConfig(data=str(folder), model="unet", batch_size=2, data_options={"weights": True})
    assert batch_options(config, valid) == {"fit": "crop", "context": (20, 20), "weights": True}
    assert batch_options(config, same) == {"fit": "stretch", "context": (0, 0), "weights": True}
    source, losses, measured = Feed(config, None, None, task_of(config), 0).open(valid, (44, 44))
    assert set(next(iter(source.dataset))[1]) == {"masks", "weights", "image_id"}
    assert next(iter(losses))[0].shape == (2, 44, 44, 3)
    assert next(iter(measured))[0].shape == (1, 48, 64, 3)


def test_what_a_model_learns_decides_what_is_read(folder):
    assert task_of(TrainConfig(model="fcn8s")) == "segmentation"
    assert task_of(TrainConfig(model="ssd")) == "detection"
    with pytest.raises(ValueError, match="holds masks, no boxes"):
        read_named(TrainConfig(model="ssd", data=str(folder)))


class Guesser:
    """Says one label everywhere."""

    num_classes, class_names = 3, ["a", "b", "c"]

    def segment(self, images):
        return {"labels": np.ones(np.shape(images)[:3], np.int32), "scores": np.ones(np.shape(images)[:3])}


def test_the_callback_logs_every_class_and_repeats_what_it_did_not_measure():
    masks = np.array([[[1, 1], [1, 0]], [[1, 255], [1, 1]]])
    callback = MeanIoU([(np.zeros((2, 2, 2, 3)), {"masks": masks})], every=2)
    callback.set_params({"epochs": 5})
    callback.set_model(Guesser())
    logs = [{}, {}]
    for epoch, one in enumerate(logs):
        callback.on_epoch_end(epoch, one)
    assert set(logs[0].values()) == {-1.0}
    assert logs[0].keys() == logs[1].keys()
    assert logs[1]["val_IoU/b"] == pytest.approx(6 / 7)
    assert logs[1]["val_mIoU"] == pytest.approx(3 / 7)  # "a" is missed, "c" occurs nowhere
    assert logs[1]["val_IoU/c"] == -1
    with pytest.raises(ValueError, match="MeanIoU needs a model with `segment`"):
        callback.set_model(object())

"""A detector of the zoo, trained on real and generated images by name, by path and by data set."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import kzoo.models
from kzoo.data import Annotations, Fault, Sample, from_annotations
from kzoo.training import TrainConfig, TrainingDiverged, train
from kzoo.training.sources import read_named

SETTINGS = {"backbone": "tiny", "image_size": 64, "batch_size": 4, "quiet": True}


def squares(count=8, class_names=("square", "ghost")):
    """White squares on grey: one box an image, never of class "ghost"."""
    samples = []
    for i in range(count):
        pixels = np.full((64, 64, 3), 90, np.uint8)
        left, top, side = 4 + 3 * i, 30 - 3 * i, 24
        pixels[top : top + side, left : left + side] = 255
        box = np.array([[left, top, left + side, top + side]], "float32")
        flags = np.zeros(1, bool)
        area = np.array([side**2], "float32")
        samples.append(
            Sample(None, f"square_{i}.png", i + 1, (64, 64), box, np.zeros(1, "int32"), flags, flags, area, pixels)
        )
    faults = [Fault("a.xml", "zero area", "line 3: xmin 5, xmax 5", "box left out")] * 2
    return Annotations(samples, list(class_names), "train", faults)


def opener(annotations):
    return lambda epoch: from_annotations(annotations, 64, 4, shuffle=True, start_epoch=epoch)


def test_an_ssd_is_trained_scored_and_found_again(tmp_path, capsys):
    annotations = squares()
    val = from_annotations(annotations, 64, 4)
    settings = {**SETTINGS, "quiet": False, "run_dir": tmp_path, "epochs": 2, "weights": None}
    run = train("ssd", opener(annotations), validation=val, **settings)
    rows = run.results
    assert {"class_loss", "box_loss", "val_mAP", "val_mAP@0.50", "val_AP/square"} <= rows[-1].keys()
    assert run.state["best_score"] == max(row["val_mAP"] for row in rows)
    assert run.model.class_names == ["square", "ghost"]
    assert run.model.detect(np.zeros((1, 64, 64, 3), "uint8"))["boxes"].shape[-1] == 4
    said = capsys.readouterr().out
    assert "No training box of ghost" in said
    assert "2 faults (2 x zero area, box left out)" in said
    assert (run.folder / "left_out.csv").read_text().count("zero area") == 2


def test_a_trained_detector_starts_another_with_more_classes(tmp_path, capsys):
    first = train("ssd", opener(squares()), run_dir=tmp_path, epochs=1, **SETTINGS)
    annotations = squares(class_names=("square", "ghost", "third"))
    settings = {**SETTINGS, "quiet": False}
    second = train("ssd", opener(annotations), run_dir=tmp_path, epochs=1, weights=str(first.folder), **settings)
    assert second.name == "ssd-2"
    assert second.model.num_classes == 3
    said = capsys.readouterr().out
    assert "weights taken over; new from scratch:" in said


def test_a_diverged_training_names_the_image_files(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"step \d, with the images square_\d\.png, square_\d\.png"):
        train("ssd", opener(squares(4)), run_dir=tmp_path, epochs=9, learning_rate=1e30, gradient_clip=0, **SETTINGS)


def test_a_folder_is_trained_by_its_path_and_resumed(tmp_path, shared_data):
    data = shared_data("bccd")
    settings = {**SETTINGS, "limit": 8, "epochs": 2, "run_dir": tmp_path, "val_split": None, "seed": 5}
    settings |= {"schedule": "constant", "warmup_epochs": 0}  # which does not depend on the number of epochs
    straight = train("ssd", data, **settings)
    assert straight.config.data == str(data)
    assert sorted(straight.model.class_names) == ["Platelets", "RBC", "WBC"]
    stopped = train("ssd", data, **{**settings, "epochs": 1})
    resumed = train(resume=stopped, epochs=2, quiet=True)
    assert [row["epoch"] for row in resumed.results] == [1, 2]
    # The same images in the same order, augmented the same way: equal up to the rounding of threads.
    for row, other in zip(straight.results, resumed.results, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
    with pytest.raises(ValueError, match=r"val_split=0\.1"):
        train("ssd", data, **{**settings, "val_split": "nowhere"})


def test_a_fraction_holds_out_images_that_are_not_trained_on(shared_data):
    data = str(shared_data("bccd"))
    train_part, val_part = read_named(TrainConfig(data=data, val_split=0.25))
    again, _ = read_named(TrainConfig(data=data, val_split=0.25))
    whole, none = read_named(TrainConfig(data=data, val_split=None))
    names = [{sample.name for sample in part.samples} for part in (train_part, val_part, whole, again)]
    assert names[0] | names[1] == names[2]
    assert not names[0] & names[1]
    assert names[0] == names[3]
    assert len(names[1]) == round(0.25 * len(names[2]))
    assert none is None
    few, val_part = read_named(TrainConfig(data=data, val_split=0.25, limit=8))
    assert [sample.name for sample in few.samples] == [sample.name for sample in train_part.samples[:8]]
    assert {sample.name for sample in val_part.samples} == names[1]


def test_an_unknown_model_is_answered_before_a_folder_is_made(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'ssd"):
        train("sdd", opener(squares()), run_dir=tmp_path, epochs=1, **SETTINGS)
    assert not list(tmp_path.iterdir())
    assert "ssd" in kzoo.models.names()


def test_a_model_that_trains_in_stages_names_its_recipe():
    for name in ("rcnn", "sppnet"):
        with pytest.raises(ValueError, match=f"recipes/{name}.py"):
            train(name, "digits")
    assert [name for name in kzoo.models.names() if kzoo.models.trains_in_stages(name)] == ["rcnn", "sppnet"]

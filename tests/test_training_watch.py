"""What a training says when something is wrong: NaN, nothing matched, classes that no image shows."""

import keras
import numpy as np
import pytest
from training_standin import Batches, StandIn

from kzoo.training import TrainingDiverged, train
from kzoo.training.watch import WarnNothingMatched, missing_classes, suspicious


def spoiled(epoch, step):
    return lambda start_epoch: Batches(start_epoch, spoil=(epoch, step))


def names_of(epoch, step):
    return [f"image_id {i}" for i in Batches(epoch)[step][1]["image_id"]]


def test_nan_stops_at_once_and_names_epoch_step_and_images(tmp_path):
    with pytest.raises(TrainingDiverged) as error:
        train(StandIn(), spoiled(1, 2), run_dir=tmp_path, epochs=4, quiet=True)
    text = str(error.value)
    assert "epoch 2, step 3" in text
    for name in names_of(1, 2):
        assert f"{name} (box not finite)" in text
    step_before = text.split("the step before")[1]
    assert all(name in step_before for name in names_of(1, 1))
    assert "learning rate" in text
    assert "kzoo check" in text


def test_nan_keeps_the_last_sound_epoch(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"last\.keras holds the last sound epoch"):
        train(StandIn(), spoiled(1, 0), run_dir=tmp_path, epochs=4, quiet=True)
    sound = keras.models.load_model(tmp_path / "stand_in" / "last.keras", compile=False)
    assert all(np.isfinite(weight).all() for weight in sound.get_weights())
    resumed = train(resume=tmp_path / "stand_in", data=Batches, quiet=True)
    assert resumed.state["epoch"] == 4


def test_nan_in_the_first_step_is_named_too(tmp_path):
    with pytest.raises(TrainingDiverged, match="epoch 1, step 1") as error:
        train(StandIn(), spoiled(0, 0), run_dir=tmp_path, epochs=1, quiet=True)
    assert "the step before" not in str(error.value)
    assert "last sound epoch" not in str(error.value)


def test_nan_is_named_for_data_that_cannot_be_opened_again(tmp_path):
    tf = pytest.importorskip("tensorflow")
    batches = Batches(spoil=(0, 1))
    images, targets = zip(*[batches[step] for step in range(len(batches))], strict=True)
    targets = {key: np.stack([target[key] for target in targets]) for key in targets[0]}
    data = tf.data.Dataset.from_tensor_slices((np.stack(images), targets))
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 2\. Try"):
        train(StandIn(), data, run_dir=tmp_path, epochs=1, quiet=True)


def test_weights_that_the_last_step_of_an_epoch_broke_are_not_kept(tmp_path):
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if (self.params["epochs"], batch) == (2, 2) and (tmp_path / "stand_in" / "last.keras").exists():
                optimizer_step_gone_wrong(self.model)

    def optimizer_step_gone_wrong(model):
        if keras.backend.backend() == "jax":
            model.jax_state_sync()
        kernel = model.get_layer("conv").kernel
        kernel.assign(np.full(kernel.shape, np.inf))

    with pytest.raises(TrainingDiverged, match="the weights became NaN or infinite in epoch 2, step 3"):
        train(StandIn(), Batches, run_dir=tmp_path, epochs=2, callbacks=[Break()], quiet=True)
    sound = keras.models.load_model(tmp_path / "stand_in" / "last.keras", compile=False)
    assert all(np.isfinite(weight).all() for weight in sound.get_weights())


def test_suspicious_images_are_those_whose_pixels_or_boxes_are_wrong():
    images = np.zeros((5, 2, 2, 3), "float32")
    images[1, 0, 0, 0] = np.inf
    boxes = np.tile(np.array([[1, 1, 5, 5], [0, 0, 0, 0]], "float32"), (5, 1, 1))
    boxes[2, 0] = [3, 3, 3, 9]
    boxes[3, 0, 1] = np.nan
    labels = np.tile(np.array([0, -1], "int32"), (5, 1))
    boxes[4, 1] = np.nan  # padding is nobody's business
    found = suspicious(images, {"boxes": boxes, "labels": labels})
    assert found == {1: "pixels not finite", 2: "box without area", 3: "box not finite"}


def test_suspicious_finds_nothing_in_a_batch_without_boxes():
    targets = {"boxes": np.zeros((2, 0, 4), "float32"), "labels": np.zeros((2, 0), "int32")}
    assert suspicious(np.zeros((2, 4, 4, 3)), targets) == {}


def test_a_box_loss_of_zero_over_an_epoch_is_warned_of():
    said = []
    watch = WarnNothingMatched(said.append)
    watch.on_epoch_end(0, {"box_loss": 0.1})
    watch.on_epoch_end(1, {"loss": 0.0})
    assert said == []
    watch.on_epoch_end(2, {"box_loss": 0.0})
    assert len(said) == 1
    assert "Epoch 3" in said[0]
    assert "too small for the default boxes" in said[0]


def test_classes_without_a_box_are_named():
    names = ["cat", "dog", "emu"]
    assert missing_classes([2, 1, 1], names) is None
    assert "No training box of dog:" in missing_classes([1, 0, 2], names)
    assert "No training pixel of dog:" in missing_classes(np.array([1, 0, 2]), names, "pixel")
    assert "no box at all" in missing_classes([0, 0, 0], names)


@pytest.mark.parametrize(("ema", "warned"), [(0.0, False), (0.5, False), (0.999, True)])
def test_an_average_longer_than_the_training_is_warned_of(tmp_path, capsys, ema, warned):
    train(StandIn(), Batches, run_dir=tmp_path, epochs=5, ema=ema)
    assert ("ema=0.999 averages over about 1000 steps, the whole training has 15" in capsys.readouterr().out) is warned

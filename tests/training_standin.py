"""A small network with its loss inside and data that is the same for each (seed, epoch): what `train` needs of both."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("kzoo_tests")
class StandIn(keras.Model):
    """Dropout, batch normalisation and two loss parts: whatever resuming could forget."""

    def __init__(self, norm=True, name="stand_in", **kwargs):
        images = keras.Input((8, 8, 3), name="images")
        x = keras.layers.Rescaling(1 / 255.0, name="scale")(images)
        x = keras.layers.Conv2D(4, 3, strides=2, name="conv")(x)
        x = keras.layers.BatchNormalization(name="norm")(x) if norm else x
        x = keras.layers.Flatten(name="flat")(keras.layers.ReLU(name="relu")(x))
        x = keras.layers.Dropout(0.5, seed=5, name="drop")(x)
        super().__init__(images, keras.layers.Dense(2, dtype="float32", name="head")(x), name=name, **kwargs)
        self.norm, self.image_size = norm, (8, 8)
        self.loss_trackers = [keras.metrics.Mean(name=part) for part in ("class_loss", "box_loss")]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        wanted = ops.cast(y["boxes"][:, 0, :2], "float32")
        parts = ops.mean(ops.square(y_pred - wanted), axis=0)
        for tracker, part in zip(self.loss_trackers, [parts[0], parts[1]], strict=True):
            tracker.update_state(part)
        return ops.sum(parts)

    def get_config(self):
        return {"norm": self.norm, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class Batches(keras.utils.PyDataset):
    """`steps` batches an epoch; shuffled anew each epoch, determined by (seed, epoch) alone."""

    def __init__(self, start_epoch=0, steps=3, batch_size=4, seed=0, spoil=None, shuffle=True):
        super().__init__()
        self.start_epoch, self.begun, self.shuffle = start_epoch, 0, shuffle
        self.steps, self.batch_size, self.seed, self.spoil = steps, batch_size, seed, spoil
        rng = np.random.default_rng(0)
        count = steps * batch_size
        self.images = rng.uniform(0, 255, (count, 8, 8, 3)).astype("float32")
        corners = rng.uniform(0, 1, (count, 1, 2))
        self.boxes = np.concatenate([corners, corners + 1], -1).astype("float32")

    def __len__(self):
        return self.steps

    @property
    def epoch(self):
        return self.start_epoch + max(self.begun - 1, 0)  # Keras reads batches before the first epoch begins

    def __getitem__(self, step):
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.images)) if self.shuffle else np.arange(len(self.images))
        rows = order[step * self.batch_size : (step + 1) * self.batch_size]
        images, boxes = self.images[rows], self.boxes[rows]
        if self.spoil == (self.epoch, step):
            boxes = np.full_like(boxes, np.nan)
        labels = np.zeros((len(rows), 1), "int32")
        return images, {"boxes": boxes, "labels": labels, "image_id": rows.astype("int64")}

    def on_epoch_begin(self):
        self.begun += 1

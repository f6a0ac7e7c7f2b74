"""Keras callbacks."""

from typing import Any

import keras

from kzoo.metrics import segmentation
from kzoo.metrics.evaluation import common_class_names, evaluate, num_classes_of
from kzoo.metrics.mean_average_precision import MeanAveragePrecision as Metric

NOT_YET = -1.0  # as the metric itself says "not measured"


class _Measurement(keras.callbacks.Callback):
    """Measures a network on a data set while it trains, and writes the numbers into the epoch's logs."""

    method = ""  # that the model must have
    class_score = ""  # of each class, also logged

    def __init__(self, data: Any, every: int = 1, prefix: str = "val_", per_class: bool = True):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1 epoch. Received: {every}.")
        if hasattr(data, "__next__"):
            raise ValueError(
                f"Validation data is read again after every {every} epoch(s), and a {type(data).__name__} "
                "can be read only once: pass a list, a tf.data.Dataset or a keras.utils.PyDataset."
            )
        self.data, self.every, self.prefix, self.per_class = data, every, prefix, per_class
        self.metric: Any = None
        self.last_result: dict[str, Any] | None = None

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        if not hasattr(model, self.method):
            name = type(self).__name__
            raise ValueError(f"{name} needs a model with `{self.method}`; {type(model).__name__} has none.")
        self.metric = self._metric(model, common_class_names(model, self.data))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        last = epoch + 1 == (self.params or {}).get("epochs") or getattr(self.model, "stop_training", False)
        if last or (epoch + 1) % self.every == 0:
            self.last_result = evaluate(self.model, self.data, metric=self.metric)
        if logs is not None:
            logs.update(self._scalars())

    def _metric(self, model: Any, class_names: list[str] | None) -> Any:
        raise NotImplementedError

    def _scalars(self) -> dict[str, float]:
        measured = self.last_result is not None
        result = self.last_result if measured else self._metric(self.model, self.metric.class_names).result()
        scalars = {key: value for key, value in result.items() if key != "per_class"}
        if self.per_class and self.metric.class_names is not None:
            score = self.class_score
            scalars |= {f"{score}/{name}": scores[score] for name, scores in result["per_class"].items()}
        return {f"{self.prefix}{key}": value if measured else NOT_YET for key, value in scalars.items()}


class MeanAveragePrecision(_Measurement):
    """Measures a detector's mean average precision on a data set while it trains.

    Adds to the epoch's logs `val_mAP`, `val_mAP@0.50` and so on, and `val_AP/<class>`. **Put it before the callbacks
    that read them**, and tell those which way is better: `ModelCheckpoint("best.keras", monitor="val_mAP", mode="max",
    save_best_only=True)`. `keras.callbacks.SwapEMAWeights(swap_on_epoch=True)` before it makes it measure the averaged
    weights.

    The keys are in the logs of every epoch, so that a `CSVLogger` has their columns from its first row. In an epoch
    without a measurement they repeat the last one, and before the first one they are −1: a NaN there would be kept as
    the best value for ever by `EarlyStopping`, and a missing key makes it and `ModelCheckpoint` warn.

    Only boxes, labels and scores are kept, and only during a measurement's epoch.

    Args:
        data: a data set as of `kzoo.metrics.evaluate`, one that can be read again and again.
        every: measure after every so many epochs, and after the last one of the training.
        protocol: "coco", "voc2007" or "voc2010".
        prefix: put before each key.
        per_class: also log each class's AP. Classes are those of the data's or the model's `class_names`; without
            either, only `last_result` has them.

    Attributes:
        last_result: what the last measurement returned ("per_class" included), `None` before it.
        metric: the `kzoo.metrics.MeanAveragePrecision` behind it, for curves and worst images of the last measurement.

    Example:
        >>> model.fit(train, callbacks=[kzoo.callbacks.MeanAveragePrecision(val, every=5)])
    """

    method, class_score = "detect", "AP"

    def __init__(self, data: Any, every: int = 1, protocol: str = "coco", prefix: str = "val_", per_class: bool = True):
        super().__init__(data, every, prefix, per_class)
        self.metric = Metric(protocol)

    def _metric(self, model: Any, class_names: list[str] | None) -> Metric:
        return Metric(self.metric.protocol, class_names)


class MeanIoU(_Measurement):
    """Measures a segmenter's mean IoU on a data set while it trains.

    Adds to the epoch's logs `val_mIoU`, `val_pixel_accuracy`, `val_mean_accuracy`, `val_mean_dice` and, for each class,
    `val_IoU/<class>`. Where it stands among the callbacks, and what is logged in epochs without a measurement, is as
    with `MeanAveragePrecision`.

    Args:
        data: batches of `(images, {"masks"})`, of the network's size or (`kzoo.data.load(..., image_size=None)`) of
            each image's own: the labels are brought to the size of the images given, and compared there.
        every: measure after every so many epochs, and after the last one of the training.
        prefix: put before each key.
        per_class: also log each class's IoU.

    Attributes:
        last_result: what the last measurement returned ("per_class" included), `None` before it.
        metric: the `kzoo.metrics.MeanIoU` behind it.

    Example:
        >>> val = kzoo.data.load("camvid", "val", image_size=None)
        >>> model.fit(train, callbacks=[kzoo.callbacks.MeanIoU(val, every=5)])
    """

    method, class_score = "segment", "IoU"

    def _metric(self, model: Any, class_names: list[str] | None) -> segmentation.MeanIoU:
        return segmentation.MeanIoU(num_classes_of(model, class_names), class_names=class_names)


def measurement(model: Any, data: Any) -> keras.callbacks.Callback | None:
    """The callback that scores this model, or None where it neither detects nor segments."""
    kind = MeanIoU if hasattr(model, "segment") else MeanAveragePrecision if hasattr(model, "detect") else None
    return None if kind is None else kind(data)

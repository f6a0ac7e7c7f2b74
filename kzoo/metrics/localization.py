"""Measures of one object an image: is the class right, and how well does the box fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kzoo import boxes as box_ops
from kzoo.metrics.records import as_numpy

GRADES = {"decent": 0.5, "pretty good": 0.7, "almost perfect": 0.9}


def grade(iou: float) -> str:
    """What an IoU is worth: "decent" above 0.5, "pretty good" above 0.7, "almost perfect" above 0.9, else "poor"."""
    return next((name for name, limit in reversed(GRADES.items()) if iou > limit), "poor")


class Localization:
    """Accuracy and IoU of the best detection of each image against its one object.

    Where an image has several objects, the largest is meant; images without any do not count. An image in which nothing
    was found has the wrong class and IoU 0.

    Args:
        class_names: keys of "per_class"; `None` takes the labels themselves, as far as they occur.

    Example:
        >>> metric = Localization(["cat"])
        >>> targets = {"boxes": np.array([[[0, 0, 10, 10]]]), "labels": [[0]]}
        >>> metric.update_state(targets, {"boxes": np.array([[[0, 0, 10, 8]]]), "labels": [[0]]})
        >>> metric.result()["mean_IoU"], metric.result()["IoU>0.7"]
        (0.8, 1.0)
    """

    def __init__(self, class_names: Sequence[str] | None = None):
        self.class_names = None if class_names is None else list(class_names)
        self.reset_state()

    def reset_state(self) -> None:
        """Forgets all batches."""
        self._labels, self._correct, self._iou = [], [], []

    def update_state(self, targets: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Adds a batch of any size.

        Args:
            targets: "boxes" (B, N, 4) xyxy and "labels" (B, N), -1 where padded.
            found: "boxes" (B, K, 4) and "labels" (B, K), best first, -1 where empty, as from `detect`.
        """
        boxes, labels = as_numpy(targets["boxes"]), as_numpy(targets["labels"])
        said, said_labels = as_numpy(found["boxes"]), as_numpy(found["labels"])
        if len(boxes) != len(said):
            raise ValueError(f"targets are of {len(boxes)} images, found of {len(said)}.")
        if boxes.shape[1] == 0 or len(boxes) == 0:
            return
        size = np.where(labels >= 0, box_ops.area(boxes), -1.0)
        largest = size.argmax(axis=1)[:, None]
        has_object = size.max(axis=1) >= 0
        boxes = np.take_along_axis(boxes, largest[..., None], axis=1)
        labels = np.take_along_axis(labels, largest, axis=1)[:, 0]
        if said.shape[1] == 0:
            said, said_labels = np.zeros((len(boxes), 1, 4)), np.full((len(boxes), 1), -1)
        iou = box_ops.iou(boxes, said[:, :1])[:, 0, 0] * (said_labels[:, 0] >= 0)
        self._labels.append(labels[has_object])
        self._correct.append((labels == said_labels[:, 0])[has_object])
        self._iou.append(iou[has_object])

    def result(self) -> dict[str, Any]:
        """Measures everything so far.

        Returns:
            "accuracy", "mean_IoU", the shares of images with "IoU>0.5", "IoU>0.7", "IoU>0.9", "localized" (right class
            and IoU above 0.5 together), each 0..1 or -1 where no image had an object; "images", how many had one; and
            "per_class": name (or label) -> the same.
        """
        empty = np.zeros(0)
        labels, correct, iou = (np.concatenate([empty, *x]) for x in (self._labels, self._correct, self._iou))
        names = sorted({int(label) for label in labels}) if self.class_names is None else self.class_names
        keys = names if self.class_names is None else range(len(names))
        per_class = {
            name: _summary(correct[labels == key], iou[labels == key]) for key, name in zip(keys, names, strict=True)
        }
        return {**_summary(correct, iou), "per_class": per_class}


def _summary(correct: np.ndarray, iou: np.ndarray) -> dict[str, float]:
    measures = {"accuracy": correct, "mean_IoU": iou}
    measures |= {f"IoU>{limit}": iou > limit for limit in GRADES.values()}
    measures["localized"] = (correct > 0) & (iou > GRADES["decent"])
    return {name: float(np.mean(x)) if x.size else -1.0 for name, x in measures.items()} | {"images": iou.size}

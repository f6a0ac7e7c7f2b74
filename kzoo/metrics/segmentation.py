"""Measures of label maps: IoU and Dice of the classes, accuracies, and the F1 score of their boundaries."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from kzoo.metrics.records import as_numpy


class MeanIoU:
    """Intersection over union and the accuracies, from one confusion matrix over all pixels of a data set.

    Args:
        num_classes: labels are 0..num_classes-1; background is a class like any other.
        ignore_label: ground-truth pixels of this label do not count.
        class_names: keys of "per_class"; the numbers by default.

    Example:
        >>> metric = MeanIoU(num_classes=11)
        >>> metric.update_state(masks, model.segment(images))
        >>> metric.result()["mIoU"]
        0.512
    """

    def __init__(self, num_classes: int, ignore_label: int | None = 255, class_names: Sequence[str] | None = None):
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.class_names = _names(num_classes, class_names)
        self.reset_state()

    def reset_state(self) -> None:
        self.confusion = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update_state(self, targets, found) -> None:
        """Adds images: masks (B, H, W), or a dict with "masks"; and labels of that shape, or a dict with "labels".

        Raises:
            ValueError: if the shapes differ or a label lies outside 0..num_classes-1.
        """
        true, predicted = label_maps(targets, found)
        valid = np.ones(true.shape, bool) if self.ignore_label is None else true != self.ignore_label
        true, predicted = true[valid].astype(np.int64), predicted[valid].astype(np.int64)
        _require_labels(true, predicted, self.num_classes, self.ignore_label)
        counts = np.bincount(true * self.num_classes + predicted, minlength=self.num_classes**2)
        self.confusion += counts.reshape(self.num_classes, self.num_classes)

    def result(self) -> dict:
        """All measures of the pixels seen.

        Returns:
            "mIoU", "pixel_accuracy" (share of the pixels that are right), "mean_accuracy" (mean over classes of the
            share of their pixels found), "mean_dice", and "per_class" -> {name: {"IoU", "accuracy", "Dice",
            "pixels"}}: Python floats in 0..1, or −1 where there was nothing to measure, as for a class that occurs
            neither in the masks nor in the predictions. Such classes are left out of the means.
        """
        hits = np.diag(self.confusion).astype(float)
        true, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        iou = _ratio(hits, true + predicted - hits)
        dice = _ratio(2 * hits, true + predicted)
        accuracy = _ratio(hits, true)
        rows = zip(self.class_names, iou, accuracy, dice, true, strict=True)
        return {
            "mIoU": mean_score(iou),
            "pixel_accuracy": score(_ratio(hits.sum(), self.confusion.sum())),
            "mean_accuracy": mean_score(accuracy),
            "mean_dice": mean_score(dice),
            "per_class": {
                name: {"IoU": score(i), "accuracy": score(a), "Dice": score(d), "pixels": int(n)}
                for name, i, a, d, n in rows
            },
        }


class BoundaryF1:
    """How well the outlines of the classes are met (Csurka et al., BMVC 2013).

    The boundary of a class is its pixels beside another class. Precision is the share of predicted boundary pixels
    within the tolerance of a true one, recall the share of true ones within it of a predicted one; F1 is taken image by
    image and class by class, and averaged over the images in which the class has a boundary on either side.

    Args:
        tolerance: as a fraction of the image's diagonal; 0.75 % in the paper.
        num_classes, ignore_label, class_names: as in `MeanIoU`. Void pixels make no boundary and lie on none.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int | None = 255,
        class_names: Sequence[str] | None = None,
        tolerance: float = 0.0075,
    ):
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.class_names = _names(num_classes, class_names)
        self.tolerance = tolerance
        self.reset_state()

    def reset_state(self) -> None:
        self._sum = np.zeros(self.num_classes)
        self._count = np.zeros(self.num_classes, np.int64)

    def update_state(self, targets, found) -> None:
        """Adds images; arguments as in `MeanIoU.update_state`."""
        true, predicted = label_maps(targets, found)
        valid = np.ones(true.shape, bool) if self.ignore_label is None else true != self.ignore_label
        _require_labels(true[valid], predicted[valid], self.num_classes, self.ignore_label)
        for mask, labels in zip(true, predicted, strict=True):
            scores = self._image(mask, labels)
            self._sum += np.nan_to_num(scores)
            self._count += ~np.isnan(scores)

    def result(self) -> dict:
        """{"mean_boundary_f1", "per_class": {name: F1}}; −1 for a class without boundary in any image."""
        scores = _ratio(self._sum, self._count)
        return {
            "mean_boundary_f1": mean_score(scores),
            "per_class": {name: score(value) for name, value in zip(self.class_names, scores, strict=True)},
        }

    def _image(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        void = np.zeros(true.shape, bool) if self.ignore_label is None else true == self.ignore_label
        radius = self.tolerance * np.hypot(*true.shape)
        a, b = (_edges(np.where(void, -1, labels).astype(np.int32), void) for labels in (true, predicted))
        of_true, of_predicted = (self._count_of(edges[edges >= 0]) for edges in (a, b))
        precision = np.nan_to_num(_ratio(self._count_of(_met(b, a, radius)), of_predicted))
        recall = np.nan_to_num(_ratio(self._count_of(_met(a, b, radius)), of_true))
        scores = np.nan_to_num(_ratio(2 * precision * recall, precision + recall))
        return np.where(of_true + of_predicted > 0, scores, np.nan)

    def _count_of(self, labels: np.ndarray) -> np.ndarray:
        return np.bincount(labels, minlength=self.num_classes)[: self.num_classes]


def label_maps(targets: Mapping | np.ndarray, found: Mapping | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks and predicted labels as arrays (B, H, W) of one shape, from arrays or from dicts with "masks", "labels".

    Raises:
        ValueError: if the shapes differ.
    """
    true = as_numpy(targets["masks"] if isinstance(targets, dict) else targets)
    predicted = as_numpy(found["labels"] if isinstance(found, dict) else found)
    if true.shape != predicted.shape or true.ndim != 3:
        raise ValueError(
            f"masks and labels must be (B, H, W) of one shape. Received: {true.shape} and {predicted.shape}."
        )
    return true, predicted


def _require_labels(true: np.ndarray, predicted: np.ndarray, num_classes: int, ignore_label: int | None) -> None:
    """Raises ValueError for a label outside 0..num_classes-1 on pixels that are known."""
    for kind, labels in (("masks", true), ("predictions", predicted)):
        if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(
                f"The {kind} hold the label {wrong}; with num_classes={num_classes} labels are 0..{num_classes - 1}, "
                f"and {ignore_label} in the masks where nothing is known."
            )


def _edges(labels: np.ndarray, void: np.ndarray) -> np.ndarray:
    """The label on each pixel that has a neighbour of another class above, below, left or right; -1 elsewhere."""
    edge = np.zeros(labels.shape, bool)
    for a, b in (((slice(1, None),), (slice(None, -1),)), ((slice(None), slice(1, None)), (slice(None), slice(-1)))):
        differ = (labels[a] != labels[b]) & ~void[a] & ~void[b]
        edge[a] |= differ
        edge[b] |= differ
    return np.where(edge, labels, -1)


def _met(edges: np.ndarray, others: np.ndarray, radius: float) -> np.ndarray:
    """The labels of those pixels of `edges` that have one of the same label in `others` within the radius."""
    y, x = np.nonzero(edges >= 0)
    labels = edges[y, x]
    reach = int(radius)
    around = np.pad(others, reach, constant_values=-1)
    met = np.zeros(len(labels), bool)
    for down, right in itertools.product(range(2 * reach + 1), repeat=2):
        if np.hypot(down - reach, right - reach) <= radius:
            met |= around[y + down, x + right] == labels
    return labels[met]


def _names(num_classes: int, class_names: Sequence[str] | None) -> list[str]:
    names = [str(k) for k in range(num_classes)] if class_names is None else [str(name) for name in class_names]
    if len(names) != num_classes:
        raise ValueError(f"num_classes is {num_classes}, but class_names has {len(names)} names: {names}.")
    return names


def _ratio(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)


def score(value: float) -> float:
    """A measure as a Python float, −1 for one that could not be measured."""
    return -1.0 if np.isnan(value) else float(value)


def mean_score(values: Sequence[float] | np.ndarray) -> float:
    """The mean of what could be measured, −1 if nothing could."""
    values = np.asarray(values, float)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else -1.0

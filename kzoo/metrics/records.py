"""What a measure remembers of a data set: boxes, labels and scores, flat and compact; no image and no padding."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class _Table:
    """Arrays of equal length, one row a box, that are sliced and reordered together."""

    def take(self, rows: np.ndarray | slice) -> Self:
        """Returns the given rows of every array."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))


@dataclass(frozen=True)
class GroundTruth(_Table):
    """The true boxes of many images, one row each."""

    image: np.ndarray  # (G,) int32: position of the image in the order of evaluation
    label: np.ndarray  # (G,) int32
    boxes: np.ndarray  # (G, 4) xyxy, half-open
    area: np.ndarray  # (G,) mask area where the data set gives one, else box area
    crowd: np.ndarray  # (G,) bool
    difficult: np.ndarray  # (G,) bool


@dataclass(frozen=True)
class Detections(_Table):
    """The boxes that a detector found in many images, one row each."""

    image: np.ndarray  # (D,) int32: position of the image in the order of evaluation
    label: np.ndarray  # (D,) int32
    boxes: np.ndarray  # (D, 4) xyxy, half-open
    score: np.ndarray  # (D,)


class Records:
    """Collects ground truth and detections batch by batch.

    Boxes, areas and scores stay float32 where they came as float32 (28 bytes a detection) and float64 otherwise.

    Args:
        max_detections: keep only so many detections of each class in an image, best first; `None` keeps all.
        inclusive_pixels: boxes name their last pixel, so that width = x2 − x1 + 1 (the VOC devkit's convention). They
            are kept half-open, 1 added to x2 and y2.
    """

    def __init__(self, max_detections: int | None = None, inclusive_pixels: bool = False):
        self.max_detections = max_detections
        self.inclusive_pixels = inclusive_pixels
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self.num_images = 0
        self._image_ids: list[np.ndarray] = []
        self._all_have_ids = True
        self._truth: list[GroundTruth] = []
        self._found: list[Detections] = []

    def add(self, targets: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Adds a padded batch (labels −1 where empty); arguments as of `MeanAveragePrecision.update_state`."""
        true_boxes, true_labels = _boxes_and_labels(targets, "targets")
        boxes, labels = _boxes_and_labels(found, "found")
        if len(true_boxes) != len(boxes):
            raise ValueError(
                f"`targets` holds {len(true_boxes)} images and `found` {len(boxes)}; pass the same batch to both."
            )
        scores = _reals(_required(found, "scores", "found"))
        if scores.shape != labels.shape:
            raise ValueError(
                f"found['scores'] has shape {scores.shape}, its labels {labels.shape}; they must be equal (B, K)."
            )
        if self.inclusive_pixels:
            true_boxes, boxes = (x + np.array([0, 0, 1, 1], x.dtype) for x in (true_boxes, boxes))

        truth = self._truth_of(targets, true_boxes, true_labels)
        detections = self._found_of(boxes, labels, scores)
        ids = _optional(targets, "image_id", (len(labels),))
        # Nothing is kept of a batch that was refused above.
        self._truth.append(truth)
        self._found.append(detections)
        self._all_have_ids &= ids is not None
        self._image_ids.append(np.arange(len(labels)) + self.num_images if ids is None else ids.astype(np.int64))
        self.num_images += len(labels)

    def _truth_of(self, targets: Mapping[str, Any], boxes: np.ndarray, labels: np.ndarray) -> GroundTruth:
        image, column = np.nonzero(labels >= 0)
        area = _optional(targets, "area", labels.shape)
        return GroundTruth(
            image=(image + self.num_images).astype(np.int32),
            label=labels[image, column],
            boxes=boxes[image, column],
            area=box_area(boxes[image, column]) if area is None else _reals(area)[image, column],
            crowd=_flags(targets, "crowd", labels.shape)[image, column],
            difficult=_flags(targets, "difficult", labels.shape)[image, column],
        )

    def _found_of(self, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Detections:
        image, column = np.nonzero(labels >= 0)
        score, label = scores[image, column], labels[image, column]
        if np.isnan(score).any():
            place = int(image[np.argmax(np.isnan(score))])
            raise ValueError(
                f"found['scores'] is NaN in image {place} of the batch; look for NaN in the model's weights or loss."
            )
        found = Detections((image + self.num_images).astype(np.int32), label, boxes[image, column], score)
        if self.max_detections is None or labels.shape[1] <= self.max_detections:
            return found
        order = np.lexsort((-score, label, image))
        classes = int(label.max(initial=0)) + 1
        best = rank_within(image[order] * classes + label[order]) < self.max_detections
        return found.take(np.sort(order[best]))

    @property
    def image_ids(self) -> np.ndarray:
        """(images,) int64 in the order of arrival: targets' "image_id" if every batch had it, else 0, 1, 2, ..."""
        if not self._all_have_ids or not self._image_ids:
            return np.arange(self.num_images)
        return np.concatenate(self._image_ids)

    def ground_truth(self) -> GroundTruth:
        """All true boxes in the order of arrival."""
        self._truth = [_concatenate(self._truth, _NO_TRUTH)]
        return self._truth[0]

    def detections(self) -> Detections:
        """All detections in the order of arrival."""
        self._found = [_concatenate(self._found, _NO_DETECTIONS)]
        return self._found[0]

    def by_class(self) -> Iterator[tuple[int, GroundTruth, Detections]]:
        """Yields (label, ground truth, detections) for every label seen, in ascending order.

        Both are sorted by image, the detections of an image by falling score. Images stand in the order of their
        "image_id", where all have one, so that neither shuffling nor the batch size changes how equal scores of two
        images are ranked. Boxes are float64: differences of float32 coordinates and their products are then exact.
        """
        place = np.empty(self.num_images, np.int32)
        place[np.argsort(self.image_ids, kind="stable")] = np.arange(self.num_images, dtype=np.int32)
        truth, found = self.ground_truth(), self.detections()
        truth, found = replace(truth, image=place[truth.image]), replace(found, image=place[found.image])
        truth_order = np.lexsort((truth.image, truth.label))
        found_order = np.lexsort((-found.score, found.image, found.label))
        truth_labels, found_labels = truth.label[truth_order], found.label[found_order]
        for label in np.union1d(truth_labels, found_labels):
            of_truth = truth_order[slice(*np.searchsorted(truth_labels, [label, label + 1]))]
            of_found = found_order[slice(*np.searchsorted(found_labels, [label, label + 1]))]
            yield int(label), _in_float64(truth.take(of_truth)), _in_float64(found.take(of_found))

    def image(self, index: int) -> dict[str, Any]:
        """Returns image number `index` in the order of arrival: its id, its true boxes and what was found.

        Returns:
            {"image_id": int, "targets": {"boxes" (N, 4), "labels" (N,), "crowd" (N,), "difficult" (N,)},
            "found": {"boxes" (K, 4), "labels" (K,), "scores" (K,)}}, without padding.
        """
        truth, found = self.ground_truth(), self.detections()
        truth = truth.take(slice(*np.searchsorted(truth.image, [index, index + 1])))
        found = found.take(slice(*np.searchsorted(found.image, [index, index + 1])))
        last = np.array([0, 0, 1, 1]) if self.inclusive_pixels else np.zeros(4, int)
        return {
            "image_id": int(self.image_ids[index]),
            "targets": {
                "boxes": truth.boxes - last.astype(truth.boxes.dtype),
                "labels": truth.label,
                "crowd": truth.crowd,
                "difficult": truth.difficult,
            },
            "found": {
                "boxes": found.boxes - last.astype(found.boxes.dtype),
                "labels": found.label,
                "scores": found.score,
            },
        }


def box_area(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) xyxy -> (...) area; 0 where a side is negative."""
    return np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0)


def rank_within(groups: np.ndarray) -> np.ndarray:
    """Numbers the members of each run of equal values: [7, 7, 3, 3, 3] -> [0, 1, 0, 1, 2]."""
    if groups.size == 0:
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.arange(groups.size) - np.repeat(starts, np.diff(np.r_[starts, groups.size]))


_NO_TRUTH = GroundTruth(
    image=np.zeros(0, np.int32),
    label=np.zeros(0, np.int32),
    boxes=np.zeros((0, 4), np.float32),
    area=np.zeros(0, np.float32),
    crowd=np.zeros(0, bool),
    difficult=np.zeros(0, bool),
)
_NO_DETECTIONS = Detections(
    image=np.zeros(0, np.int32),
    label=np.zeros(0, np.int32),
    boxes=np.zeros((0, 4), np.float32),
    score=np.zeros(0, np.float32),
)


def _concatenate(parts: list, empty):
    if len(parts) < 2:
        return parts[0] if parts else empty
    return replace(empty, **{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(empty)})


def _in_float64(table):
    return replace(table, boxes=table.boxes.astype(np.float64))


def as_numpy(values: Any) -> np.ndarray:
    """Returns an array of whatever backend as NumPy's, without copying where it can."""
    if hasattr(values, "detach"):  # PyTorch: off the tape and off the accelerator first
        values = values.detach().cpu()
    return np.asarray(values)


def _reals(values: Any) -> np.ndarray:
    array = as_numpy(values)
    # Integers may exceed float32's 24 bits; half precisions fit in float32.
    return array.astype(
        np.float64 if array.dtype.kind in "iub" or array.dtype == np.float64 else np.float32, copy=False
    )


def _required(batch: Mapping[str, Any], key: str, name: str) -> Any:
    if key not in batch:
        raise ValueError(f"`{name}` lacks {key!r}; it has: {', '.join(map(str, batch)) or 'nothing'}.")
    return batch[key]


def _boxes_and_labels(batch: Mapping[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    boxes, labels = _reals(_required(batch, "boxes", name)), as_numpy(_required(batch, "labels", name))
    if boxes.ndim != 3 or boxes.shape[-1] != 4 or boxes.shape[:2] != labels.shape:
        raise ValueError(
            f"{name}['boxes'] has shape {boxes.shape} and {name}['labels'] {labels.shape}; "
            "pass a padded batch: (B, N, 4) xyxy and (B, N), labels -1 where empty."
        )
    return boxes, labels.astype(np.int32, copy=False)


def _optional(batch: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    if batch.get(key) is None:
        return None
    array = as_numpy(batch[key])
    if array.shape != shape:
        raise ValueError(f"targets[{key!r}] has shape {array.shape}; beside the labels it must be {shape}.")
    return array


def _flags(batch: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    array = _optional(batch, key, shape)
    return np.zeros(shape, bool) if array is None else array.astype(bool, copy=False)

"""A detector's or a segmenter's run over a data set."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from kzoo.messages import some_of
from kzoo.metrics.mean_average_precision import MeanAveragePrecision
from kzoo.metrics.records import as_numpy
from kzoo.metrics.segmentation_measures import SegmentationMeasures

BATCH_SIZE = 8  # images that are detected together where the data set is one tuple of arrays


def evaluate(
    detector: Any,
    dataset: Iterable | tuple,
    protocol: str = "coco",
    metric: MeanAveragePrecision | SegmentationMeasures | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    cells: bool = False,
) -> dict[str, Any]:
    """Runs a detector or a segmenter over a data set and measures what it found.

    Where the targets of boxes hold "transform", found and true boxes are first moved back into pixels of the original
    image, so that areas are what COCO and VOC mean by them. No image is kept.

    Args:
        detector: whatever has `detect(images)`, or `segment(images)`: a model, or an exported file opened by
            `kzoo.export.load`. One whose `detect` takes proposals gets those of the targets, where they have any.
        dataset: an iterable of `(images, targets)` batches (a `tf.data.Dataset`, a `keras.utils.PyDataset`, a list), or
            one tuple `(images, targets)` of arrays; targets as of `MeanAveragePrecision.update_state`, of a segmenter
            with "masks" (B, H, W), or these masks alone.
        protocol: of a detector, "coco", "voc2007" or "voc2010".
        metric: measure with this one instead, and look into it afterwards (curves, worst images); or with another
            measure, as `Localization` or `MeanIoU`. It is reset first. None: mean average precision, or
            `SegmentationMeasures`.
        progress: called after each batch with the number of batches done and their total, `None` if unknown.
        cells: of a segmenter without `metric`, the measures of cells, too.

    Returns:
        `metric.result()`.

    Raises:
        ValueError: for a data set that is empty, endless or yields no targets, and for a detector with other classes.
    """
    class_names = common_class_names(detector, dataset)
    if cells and (metric is not None or not hasattr(detector, "segment")):
        raise ValueError("cells=True goes with a segmenter, and without another metric.")
    if metric is None and hasattr(detector, "segment"):
        metric = SegmentationMeasures(num_classes_of(detector, class_names), class_names=class_names, cells=cells)
    elif metric is None:
        metric = MeanAveragePrecision(protocol, class_names)
    metric.reset_state()
    batches, total = _batches(dataset)
    num_images = 0
    for done, batch in enumerate(batches, start=1):
        images, targets = _images_and_targets(batch, hasattr(detector, "segment"))
        targets = {key: as_numpy(value) for key, value in targets.items()}
        found = segment_or_detect(detector, images, targets)
        found = {key: as_numpy(value) for key, value in found.items()}
        metric.update_state(*to_original(targets, found))
        num_images += len(found["labels"])
        if progress is not None:
            progress(done, total)
    if num_images == 0:
        raise ValueError(
            "The data set gave no image to evaluate. A generator can be read only once: pass a list, a "
            "tf.data.Dataset or a keras.utils.PyDataset instead."
        )
    return metric.result()


def segment_or_detect(model: Any, images: Any, targets: Mapping[str, Any]) -> dict[str, Any]:
    """What the model says of a batch, with the targets' proposals where it takes them."""
    if hasattr(model, "segment"):
        return model.segment(images)
    extra = {"proposals": targets["proposals"]} if "proposals" in targets and takes_proposals(model) else {}
    return model.detect(images, **extra)


def takes_proposals(detector: Any) -> bool:
    """Does its `detect` take proposals beside the images, as Fast R-CNN's?"""
    return "proposals" in inspect.signature(detector.detect).parameters


def num_classes_of(segmenter: Any, class_names: list[str] | None) -> int:
    """How many classes a segmenter tells apart; where it does not say, how many names there are."""
    count = getattr(segmenter, "num_classes", None) or (len(class_names) if class_names else None)
    if count is None:
        raise ValueError("Neither the segmenter nor the data set knows its classes: pass metric=MeanIoU(num_classes).")
    return count


def to_original(
    targets: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Moves the boxes of a batch from the network's image back to the original one.

    Args:
        targets: with "transform" (B, 4) = (sx, sy, tx, ty) and x' = x sx + tx, y' = y sy + ty from original to network
            pixels; without it nothing changes.
        found: detections of the same batch.

    Returns:
        (targets, found) with other "boxes", float32.
    """
    transform = targets.get("transform")
    if transform is None:
        return dict(targets), dict(found)
    transform = np.asarray(transform, np.float64)
    if transform.shape != (len(targets["labels"]), 4) or (transform[:, :2] <= 0).any():
        raise ValueError(
            f"targets['transform'] must be (B, 4) = (sx, sy, tx, ty) with positive scales. "
            f"Received shape {transform.shape}, least scale {transform[..., :2].min(initial=np.inf):g}."
        )
    scale, shift = np.tile(transform[:, None, :2], 2), np.tile(transform[:, None, 2:], 2)
    return tuple(
        {**part, "boxes": ((np.asarray(part["boxes"], np.float64) - shift) / scale).astype(np.float32)}
        for part in (targets, found)
    )


def common_class_names(detector: Any, dataset: Any) -> list[str] | None:
    """The class names of data set and detector; `None` where neither knows them.

    Raises:
        ValueError: if both know them and labels cannot mean the same.
    """
    of_data, of_detector = (getattr(x, "class_names", None) for x in (dataset, detector))
    if of_data is None or of_detector is None:
        names = of_detector if of_data is None else of_data
        return None if names is None else list(names)
    of_data, of_detector = list(of_data), list(of_detector)
    # Other names in the same places are renamed classes; a name in another place is another label.
    moved = any(name in of_detector and of_detector.index(name) != label for label, name in enumerate(of_data))
    if len(of_data) != len(of_detector) or moved:
        raise ValueError(
            f"The detector's classes are {_shown(of_detector)}, the data set's {_shown(of_data)}: their labels "
            "mean different things. Load the data with class_names=detector.class_names."
        )
    return of_data


def _shown(names: list[str]) -> str:
    return f"{some_of(names)} ({len(names)})"


def _images_and_targets(batch: Any, masks: bool) -> tuple[Any, Mapping[str, Any]]:
    if masks and isinstance(batch, tuple | list) and len(batch) >= 2 and hasattr(batch[1], "shape"):
        return batch[0], {"masks": batch[1]}
    if not isinstance(batch, tuple | list) or len(batch) < 2 or not isinstance(batch[1], Mapping):
        raise ValueError(
            "A data set for evaluation yields (images, targets), targets a dict with 'boxes' and 'labels', or 'masks'. "
            f"Received: {type(batch).__name__} of {len(batch) if hasattr(batch, '__len__') else '?'}."
        )
    return batch[0], batch[1]


def _batches(dataset: Any) -> tuple[Iterator, int | None]:
    """Returns the batches and how many they are, where that is known."""
    if isinstance(dataset, tuple) and len(dataset) >= 2 and not isinstance(dataset[0], tuple | list):
        images, targets = dataset[:2]
        targets = targets if isinstance(targets, Mapping) else {"masks": targets}
        starts = range(0, len(images), BATCH_SIZE)
        parts = (slice(start, start + BATCH_SIZE) for start in starts)
        return ((images[p], {key: value[p] for key, value in targets.items()}) for p in parts), len(starts)
    if hasattr(dataset, "num_batches"):  # keras.utils.PyDataset, whose own iteration never ends
        count = dataset.num_batches
        if count is None:
            raise ValueError("The data set never ends (its num_batches is None); evaluation needs one that does.")
        return (dataset[i] for i in range(count)), count
    if hasattr(dataset, "cardinality"):
        count = int(dataset.cardinality())  # −1: never ends, −2: unknown
        if count == -1:
            raise ValueError("The data set never ends (repeat() without a count); evaluation needs one that does.")
        return iter(dataset), count if count >= 0 else None
    return iter(dataset), len(dataset) if hasattr(dataset, "__len__") else None

"""Measuring a segmenter for a report: scores as plain JSON, and the pictures that go with them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import metrics, run_files, visualize
from kzoo.data.mask_store import MaskStore

_COMPARED, _WORST = 8, 8


class SegmentationMeasurement:
    """`SegmentationMeasures` that also remember how well each image was labelled.

    Attributes:
        metric: over all images.
        segmenter: what was measured; it draws the pictures afterwards.
        per_image: (N, 2) mean IoU of the classes in the image, and share of wrong pixels; in the order measured.
    """

    def __init__(self, segmenter: Any, class_names: list[str] | None, cells: bool = False):
        self.segmenter = segmenter
        count = metrics.evaluation.num_classes_of(segmenter, class_names)
        self.metric = metrics.SegmentationMeasures(count, class_names=class_names, cells=cells)
        self.reset_state()

    def reset_state(self) -> None:
        self.metric.reset_state()
        self.per_image: list[tuple[float, float]] = []

    def update_state(self, targets: Any, found: Any) -> None:
        self.metric.update_state(targets, found)
        for mask, labels in zip(targets["masks"], found["labels"], strict=True):
            one = metrics.MeanIoU(self.metric.mean_iou.num_classes)
            one.update_state(mask[None], labels[None])
            scores = one.result()
            self.per_image.append((scores["mIoU"], 1 - scores["pixel_accuracy"] if one.confusion.any() else 0.0))

    def result(self) -> dict[str, Any]:
        return self.metric.result()


def measure(
    segmenter: Any,
    dataset: Any,
    protocol: str = "",
    progress: Callable[[int, int | None], None] | None = None,
    cells: bool = False,
) -> tuple[SegmentationMeasurement, dict[str, Any]]:
    """Runs a segmenter over a data set; arguments and results as of `boxes.measure`, without a protocol.

    Args:
        cells: also the measures of cells, as of `kzoo.metrics.SegmentationMeasures`.

    Returns:
        The measurement, for pictures, and what goes into evaluation.json: "split", "images", "seconds", "scores"
        {measure: value} and "per_class" (one dict a class: "class", "IoU", "accuracy", "Dice", "pixels", "boundary
        F1").
    """
    names = metrics.evaluation.common_class_names(segmenter, dataset)
    measurement = SegmentationMeasurement(segmenter, names, cells)
    start = time.perf_counter()
    result = metrics.evaluate(segmenter, dataset, metric=measurement, progress=progress)
    per_class = result.pop("per_class")
    evaluation = {
        "split": getattr(getattr(dataset, "annotations", None), "split", None),
        "images": len(measurement.per_image),
        "seconds": round(time.perf_counter() - start, 2),
        "scores": result,
        "per_class": [{"class": name, **scores} for name, scores in per_class.items()],
    }
    return measurement, evaluation


def draw_measurement(folder: str | Path, measurement: SegmentationMeasurement, evaluation: dict[str, Any]) -> None:
    """Writes the confusion matrix of the pixels into a folder."""
    metric = measurement.metric.mean_iou
    path = Path(folder) / run_files.PICTURES["confusion"]
    visualize.confusion_matrix(metric.confusion, path, metric.class_names, background=False)


def draw_images(
    folder: str | Path, measurement: SegmentationMeasurement, evaluation: dict[str, Any], annotations: Any
) -> None:
    """Writes ground truth beside predictions, and the worst images, into a folder; these are labelled once more.

    Args:
        folder: where the pictures go.
        measurement: of all images of `annotations`, in their order.
        annotations: the `MaskAnnotations` that were measured.
    """
    scores = np.array(measurement.per_image).reshape(-1, 2)
    # Spread over the split: the first images of a folder are often of one kind.
    chosen = np.unique(np.linspace(0, len(scores) - 1, min(_COMPARED, len(scores))).round().astype(int))
    picture = _compare(measurement, annotations, chosen)
    visualize.save(picture, Path(folder) / run_files.PICTURES["comparison"])
    worst = np.argsort(-scores[:, 1], kind="stable")[:_WORST]
    worst = [index for index in worst if scores[index, 1] > 0]
    path = Path(folder) / run_files.PICTURES["worst"]
    if worst:
        visualize.save(_compare(measurement, annotations, worst), path)
    else:  # an older picture would show errors that are none any more
        path.unlink(missing_ok=True)


def _compare(measurement: SegmentationMeasurement, annotations: Any, indices: Any) -> np.ndarray:
    store = MaskStore(annotations)
    images, masks, found, captions, notes = [], [], [], [], []
    for index in indices:
        image, mask, *_ = store.read(int(index))
        mean_iou, wrong = measurement.per_image[int(index)]
        images.append(image)
        masks.append(mask)
        found.append(measurement.segmenter.segment(image[None])["labels"][0])
        captions.append(annotations.samples[int(index)].name)
        notes.append(f"{wrong:.1%} wrong, mIoU {max(mean_iou, 0):.2f}")
    return visualize.mask_comparison(images, masks, found, annotations.class_names, captions, notes)


def draw_data(folder: str | Path, annotations: Any, model: Any = None) -> None:
    """Writes the pixel statistics of the training split."""
    counts = np.stack([sample.counts for sample in annotations.samples])
    visualize.mask_statistics(counts, annotations.class_names, Path(folder) / run_files.PICTURES["labels"])


def draw_batch(folder: str | Path, dataset: Any, max_images: int = 16) -> None:
    """Writes the first batch of a training data set as the network sees it, with the images' names."""
    images, targets = next(iter(dataset))
    names = {sample.image_id: sample.name for sample in dataset.annotations.samples}
    captions = [names.get(int(one), str(one)) for one in np.asarray(targets["image_id"])][:max_images]
    images, masks = np.asarray(images)[:max_images], np.asarray(targets["masks"])[:max_images]
    picture = visualize.mask_grid(images, masks, dataset.class_names, captions)
    visualize.save(picture, Path(folder) / run_files.PICTURES["batch"])

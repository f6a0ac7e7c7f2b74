"""Measuring a detector for a report: scores as plain JSON, and the pictures that go with them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import metrics, run_files, visualize

_RECALLS = np.linspace(0, 1, 201)
_THRESHOLDS = np.linspace(0, 1, 201)
_COMPARED, _WORST = 8, 8


def measure(
    detector: Any, dataset: Any, protocol: str = "coco", progress: Callable[[int, int | None], None] | None = None
) -> tuple[metrics.MeanAveragePrecision, dict[str, Any]]:
    """Runs a detector over a data set; one that says a single box an image is measured as a localizer, too.

    Args:
        detector: whatever has `detect` (see `kzoo.metrics.evaluate`).
        dataset: batches for evaluation, as of `kzoo.data.load`.
        protocol: "coco", "voc2007" or "voc2010".
        progress: called with the batches done and their total.

    Returns:
        The metric, for curves and pictures, and what goes into evaluation.json: "protocol", "split", "images",
        "seconds", "scores" {measure: value}, "per_class" (one dict a class: "class", "objects", "AP", ..., "best F1",
        "at score") and "score_threshold", the one with the best mean F1. Of a localizer "scores" and "per_class" also
        hold the measures of `kzoo.metrics.Localization`.
    """
    names = metrics.evaluation.common_class_names(detector, dataset)
    metric = metrics.MeanAveragePrecision(protocol, class_names=names)
    both = _WithLocalization(metric)
    start = time.perf_counter()
    result = metrics.evaluate(detector, dataset, metric=both, progress=progress)
    seconds = time.perf_counter() - start
    curves = metrics.precision_recall_curves(metric)
    threshold, _ = metrics.best_f1_threshold(curves)
    per_class = []
    for name, scores in result.pop("per_class").items():
        best = curves[name].best_f1()
        per_class.append(
            {
                "class": str(name),
                "objects": curves[name].num_objects,
                **scores,
                "best F1": best["f1"] if curves[name].num_objects else None,
                "at score": best["score"] if curves[name].num_objects else None,
            }
        )
    result |= _localization(both, per_class)
    annotations = getattr(dataset, "annotations", None)
    evaluation = {
        "protocol": protocol,
        "split": getattr(annotations, "split", None),
        "images": metric.records.num_images,
        "seconds": round(seconds, 2),
        "score_threshold": threshold,
        "scores": result,
        "per_class": per_class,
    }
    return metric, evaluation


class _WithLocalization:
    """Mean average precision, and beside it the measures of one object an image for detectors that say one box."""

    def __init__(self, metric: metrics.MeanAveragePrecision):
        self.metric = metric
        self.localization = metrics.Localization(metric.class_names)

    def reset_state(self) -> None:
        self.metric.reset_state()
        self.localization.reset_state()
        self.most_found = 0

    def update_state(self, targets: Any, found: Any) -> None:
        self.metric.update_state(targets, found)
        self.localization.update_state(targets, found)
        self.most_found = max(self.most_found, found["labels"].shape[1])

    def result(self) -> dict[str, Any]:
        return self.metric.result()


def _localization(both: _WithLocalization, per_class: list[dict[str, Any]]) -> dict[str, Any]:
    """The measures of a localizer, which also go into the rows of the classes; nothing for other detectors."""
    if both.most_found != 1:
        return {}
    result = both.localization.result()
    classes = {str(name): measures for name, measures in result.pop("per_class").items()}
    for row in per_class:
        if row["class"] in classes:
            row |= {name: classes[row["class"]][name] for name in ("accuracy", "mean_IoU")}
    grades = {f"IoU>{limit}": f"IoU>{limit}, {name}" for name, limit in metrics.GRADES.items()}
    return {grades.get(name, name): value for name, value in result.items() if name != "images"}


def draw_measurement(folder: str | Path, metric: metrics.MeanAveragePrecision, evaluation: dict[str, Any]) -> None:
    """Writes precision-recall, F1 and confusion matrix of a measurement into a folder."""
    folder = Path(folder)
    curves = metrics.precision_recall_curves(metric)
    names = [str(name) for name in curves]
    ap = {row["class"]: row.get("AP@0.50", row.get("AP")) for row in evaluation["per_class"]}
    precision = np.stack(
        [curve.precision_at(_RECALLS) for curve in curves.values()] or [np.full(_RECALLS.shape, np.nan)]
    )
    f1 = np.stack([curve.f1_at(_THRESHOLDS) for curve in curves.values()] or [np.full(_THRESHOLDS.shape, np.nan)])
    values = [ap[name] if ap[name] >= 0 else np.nan for name in names]
    visualize.precision_recall(
        _RECALLS, precision, folder / run_files.PICTURES["precision_recall"], names, values or None
    )
    visualize.f1_curves(_THRESHOLDS, f1, folder / run_files.PICTURES["f1"], names)
    if metric.class_names:
        matrix = metrics.ConfusionMatrix(len(metric.class_names), score=evaluation["score_threshold"])
        matrix.update_from(metric.records)
        visualize.confusion_matrix(matrix.result(), folder / run_files.PICTURES["confusion"], metric.class_names)


def draw_images(
    folder: str | Path, metric: metrics.MeanAveragePrecision, evaluation: dict[str, Any], annotations: Any
) -> None:
    """Writes ground truth beside predictions, and the worst images, into a folder; images are read again one by one.

    Args:
        folder: where the pictures go.
        metric: after a measurement.
        evaluation: as of `measure`; its score threshold says which detections are drawn.
        annotations: the `Annotations` that were measured.
    """
    folder, threshold = Path(folder), evaluation["score_threshold"]
    count = metric.records.num_images
    # Spread over the split: the first images of a folder are often of one kind.
    chosen = np.unique(np.linspace(0, count - 1, min(_COMPARED, count)).round().astype(int))
    visualize.save(
        _compare(metric, annotations, list(chosen), None, threshold), folder / run_files.PICTURES["comparison"]
    )
    worst = metrics.worst_images(metric, k=_WORST, score=threshold)
    if worst:
        notes = [f"{one.misses} missed, {one.false_positives} false" for one in worst]
        picture = _compare(metric, annotations, [one.index for one in worst], notes, threshold)
        visualize.save(picture, folder / run_files.PICTURES["worst"])
    else:  # an older picture would show errors that are none any more
        (folder / run_files.PICTURES["worst"]).unlink(missing_ok=True)


def _compare(metric, annotations, indices: list[int], notes: list[str] | None, threshold: float) -> np.ndarray:
    from kzoo.data.store import SampleStore

    store = SampleStore(annotations, max((len(s.labels) for s in annotations.samples), default=0))
    place = {sample.image_id: i for i, sample in enumerate(annotations.samples)}
    images, captions, targets, found = [], [], [], []
    for index in indices:
        record = metric.records.image(int(index))
        sample = place[record["image_id"]]
        images.append(store.read(sample)[0])
        captions.append(annotations.samples[sample].name)
        targets.append(record["targets"])
        found.append(record["found"])
    return visualize.comparison_grid(
        images,
        {key: [one[key] for one in targets] for key in ("boxes", "labels")},
        {key: [one[key] for one in found] for key in ("boxes", "labels", "scores")},
        annotations.class_names,
        captions,
        threshold,
        max_images=len(images),
        notes=notes,
    )


def draw_data(folder: str | Path, annotations: Any, model: Any = None) -> None:
    """Writes the label statistics of the training split, with the default boxes of a model that has some."""
    samples = annotations.samples
    visualize.label_statistics(
        [sample.boxes for sample in samples],
        [sample.labels for sample in samples],
        [sample.size for sample in samples],
        annotations.class_names,
        Path(folder) / run_files.PICTURES["labels"],
        network_size=getattr(model, "image_size", None),
        default_boxes=getattr(model, "anchors", None),
    )


def draw_batch(folder: str | Path, dataset: Any, max_images: int = 16) -> None:
    """Writes the first batch of a training data set as the network sees it, with the images' names."""
    images, targets = next(iter(dataset))
    names = {sample.image_id: sample.name for sample in dataset.annotations.samples}
    ids = np.asarray(targets["image_id"])
    targets = {key: np.asarray(targets[key]) for key in ("boxes", "labels")}
    captions = [names.get(int(one), str(one)) for one in ids]
    picture = visualize.batch_grid(np.asarray(images), targets, dataset.class_names, captions, max_images)
    visualize.save(picture, Path(folder) / run_files.PICTURES["batch"])

"""Does an exported file find what its Keras model finds? Both run over the same images, and are scored side by side."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kzoo import boxes as box_ops
from kzoo.export import segment_verification
from kzoo.export.runtime import FileDetector, FileModel, FileSegmenter, load
from kzoo.metrics import MeanAveragePrecision
from kzoo.metrics.evaluation import common_class_names, to_original

if TYPE_CHECKING:
    import keras

SCORES = ("mAP", "mAP@0.50", "mAP@0.75")
SAME_OBJECT_IOU = 0.5
BATCH = 16  # images compared at once: the overlaps of all pairs of detections stay within some tens of megabytes


def verify(
    file: str | Path | FileDetector | FileSegmenter,
    model: "keras.Model",
    data: Iterable,
    images: int | None = None,
    min_score: float = 0.05,
    protocol: str = "coco",
    threads: int | None = None,
) -> dict:
    """Compares an exported file with the model it came from, detection by detection and by mean average precision.

    Two detections are the same object if they have the same label and each is the other's best overlap, with IoU of 0.5
    or more: the order of near-equal scores does not matter.

    Args:
        file: a path that `kzoo.export.load` takes, or a detector or segmenter.
        model: the Keras detector or segmenter.
        data: a data set of `kzoo.data.load`, any iterable of `(images, targets)` batches, or one tuple `(images,
            targets)` of arrays; images alone compare the detections without scoring them.
        images: how many images to use; all by default.
        min_score: detections below it are not compared (they are scored, though): thousands of near-zero ones would
            drown those that matter.
        protocol: of the `kzoo.metrics.MeanAveragePrecision`.
        threads: of a .tflite file's interpreter.

    Returns:
        "file", "quantization", "size_mb", "images" and "detections" (compared, of both sides); "label_agreement" (share
        of the detections with a counterpart, 1 where there are none), "max_box_error_px" and "mean_box_error_px"
        (corner coordinates), "max_score_error" (over all pairs, 0 where there are none); with ground truth also
        "mAP_keras", "mAP_exported", and the same for "mAP@0.50" and "mAP@0.75" where the protocol has them. Of a
        segmenter, "label_agreement" is the share of pixels with the same label, and instead of boxes and mAP there are
        "score_agreement", the share of pixels with the same score to 1e-4, "image_agreement", the share of images in
        which all pixels have, and, with masks, "mIoU_keras", "mIoU_exported", "pixel_accuracy_keras" and
        "pixel_accuracy_exported".

    Raises:
        ValueError: if `data` has no image, or other classes than the model.

    Example:
        >>> kzoo.export.verify("model.tflite", model, data)["mAP_exported"]
        0.547
    """
    exported = load(file, threads) if isinstance(file, str | Path) else file
    class_names = common_class_names(model, data)
    path = exported.path if isinstance(exported, FileModel) else None
    about = {
        "file": exported.name if path is None else str(path),
        "quantization": None if path is None else exported.metadata.get("quantization"),
        "size_mb": None if path is None else size_mb(path),
    }
    if hasattr(model, "segment"):
        return about | _with_images(segment_verification.compare(exported, model, _batches(data, images)))
    metrics = {side: MeanAveragePrecision(protocol, class_names) for side in ("keras", "exported")}
    count, scored = 0, False
    pairs = _Pairs(min_score)
    for batch, targets in _batches(data, images):
        found = {"keras": model.detect(batch), "exported": exported.detect(batch)}
        pairs.add(found["keras"], found["exported"])
        if targets is not None:
            scored = True
            for side, metric in metrics.items():
                metric.update_state(*to_original(targets, found[side]))
        count += len(batch)
    result = _with_images({**about, "images": count, **pairs.result()})
    if scored:
        values = {side: metric.result() for side, metric in metrics.items()}
        for name in SCORES:
            if name in values["keras"]:
                result |= {f"{name}_{side}": values[side][name] for side in values}
    return result


def _with_images(result: dict) -> dict:
    if not result["images"]:
        raise ValueError("verify: the data holds no image. Give a data set with at least one.")
    return result


def format_verification(result: dict) -> str:
    """One line that says how far an exported file is from its model, from what `verify` returns."""
    kind = result["quantization"] or "float32"
    size = "" if result["size_mb"] is None else f", {result['size_mb']:.1f} MB"
    parts = [
        f"{name} {result[f'{name}_keras']:.4f} -> {result[f'{name}_exported']:.4f} "
        f"({result[f'{name}_exported'] - result[f'{name}_keras']:+.4f})"
        for name in (*SCORES[:2], "mIoU", "pixel_accuracy")
        if f"{name}_keras" in result
    ]
    share = 100 * result["label_agreement"]
    if result.get("detections") == 0:
        parts.append("there was no detection to compare")
    elif "detections" in result:
        parts.append(
            f"{share:.1f} % of {result['detections']} detections agree, boxes to {result['max_box_error_px']:.2g} px, "
            f"scores to {result['max_score_error']:.1g}"
        )
    else:
        parts.append(f"{share:.2f} % of the pixels agree, scores to {result['max_score_error']:.1g}")
    images = f"{result['images']} image{'s' if result['images'] != 1 else ''}"
    return f"{result['file']} ({kind}{size}) on {images}: {'; '.join(parts)}"


def size_mb(path: str | Path) -> float:
    """Size of a file, or of all files of a folder, in megabytes (10^6 bytes)."""
    path = Path(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def match_detections(a: dict, b: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs the detections of two detectors on a batch: indices (image, row in a, row in b) of each pair.

    Rows of the same image with the same label that are each other's best overlap, IoU 0.5 or more.
    """
    boxes_a, boxes_b = np.asarray(a["boxes"], np.float32), np.asarray(b["boxes"], np.float32)
    same = np.asarray(a["labels"])[:, :, None] == np.asarray(b["labels"])[:, None, :]
    same &= np.asarray(a["labels"])[:, :, None] >= 0
    if 0 in same.shape:
        return (np.zeros(0, int),) * 3
    gap = np.abs(boxes_a[:, :, None] - boxes_b[:, None, :]).max(axis=-1)
    # The IoU of boxes without area is 0, but where they coincide they are the same box.
    likeness = np.maximum(np.asarray(box_ops.iou(boxes_a, boxes_b)), 1 - 2 * gap)
    # Between boxes as good as equal, the score decides.
    likeness -= 1e-3 * np.abs(np.asarray(a["scores"])[:, :, None] - np.asarray(b["scores"])[:, None, :])
    likeness = np.where(same, likeness, -1.0)
    best_b = likeness.argmax(axis=2)
    best_a = likeness.argmax(axis=1)
    rows = np.arange(likeness.shape[1])[None]
    mutual = np.take_along_axis(best_a, best_b, axis=1) == rows
    best = np.take_along_axis(likeness, best_b[..., None], axis=2)[..., 0]
    image, row = np.nonzero(mutual & (best >= SAME_OBJECT_IOU))
    return image, row, best_b[image, row]


class _Pairs:
    """Keeps the differences between paired detections, a few numbers a batch."""

    def __init__(self, min_score: float):
        self.min_score = min_score
        self.total = self.paired = self.coordinates = 0
        self.box_sum = self.box_max = self.score_max = 0.0

    def add(self, a: dict, b: dict) -> None:
        image, i, j = match_detections(a, b)
        # A detection counts if it is above min_score itself; its counterpart may lie just below.
        high = [(np.asarray(x["labels"]) >= 0) & (np.asarray(x["scores"]) >= self.min_score) for x in (a, b)]
        self.total += int(high[0].sum() + high[1].sum())
        high_a, high_b = high[0][image, i], high[1][image, j]
        self.paired += int(high_a.sum() + high_b.sum())
        image, i, j = (k[high_a | high_b] for k in (image, i, j))
        box_error = np.abs(a["boxes"][image, i] - b["boxes"][image, j])
        score_error = np.abs(a["scores"][image, i] - b["scores"][image, j])
        self.coordinates += box_error.size
        self.box_sum += float(box_error.sum())
        self.box_max = max(self.box_max, float(box_error.max(initial=0.0)))
        self.score_max = max(self.score_max, float(score_error.max(initial=0.0)))

    def result(self) -> dict:
        return {
            "detections": self.total,
            "label_agreement": self.paired / self.total if self.total else 1.0,
            "max_box_error_px": self.box_max,
            "mean_box_error_px": self.box_sum / max(self.coordinates, 1),
            "max_score_error": self.score_max,
        }


def _batches(data, limit: int | None):
    """Yields (images, targets or None) as NumPy, `limit` images in all."""
    left = float("inf") if limit is None else limit
    for item in [data] if isinstance(data, np.ndarray | tuple) else data:
        if left <= 0:
            return
        images, targets = item[:2] if isinstance(item, tuple | list) else (item, None)
        if targets is not None and not isinstance(targets, dict):
            targets = {"masks": targets}
        images = np.asarray(images)
        keep = int(min(len(images), left))
        left -= keep
        for part in (slice(start, min(start + BATCH, keep)) for start in range(0, keep, BATCH)):
            yield images[part], targets and {name: np.asarray(value)[part] for name, value in targets.items()}

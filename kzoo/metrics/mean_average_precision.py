"""Mean average precision as COCO and PASCAL VOC define it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kzoo.messages import unknown_name
from kzoo.metrics import coco, voc
from kzoo.metrics.records import Records, as_numpy

PROTOCOLS = ("coco", "voc2007", "voc2010")


class MeanAveragePrecision:
    """Mean average precision (mAP) of a detector over a data set.

    Protocols:

    - `"coco"`: IoU 0.50:0.05:0.95, precision at 101 recalls, at most 100 detections of each class in an image, area
      ranges, crowds (definitions of `cocoeval`, whose numbers these are to 1e-9). A difficult box is neither missed nor
      found.
    - `"voc2007"`: IoU above 0.5, precision at eleven recalls; difficult boxes and what is found on them do not count.
    - `"voc2010"`: the same with the area under the precision envelope.

    Images without objects, without detections and classes without either are all normal. A class without a true box
    that counts has AP −1, as in COCO, and is left out of the mean; a mean over no class is −1. No value is NaN.

    Of each batch only boxes, labels and scores are kept (28 bytes a detection if float32). Boxes should be in pixels
    of the original image if small, medium and large are to mean what COCO means; `kzoo.metrics.evaluate` sees to that.

    Args:
        protocol: "coco", "voc2007" or "voc2010".
        class_names: names of the labels 0, 1, ...: keys of "per_class", and the range that labels are checked against.
            `None` takes the labels themselves, as far as they occur.
        inclusive_pixels: boxes name their last pixel, so that width = x2 − x1 + 1, as in the VOC devkit's own files.
            Boxes from this library's readers are half-open and give the devkit's widths without it.

    Example:
        >>> metric = MeanAveragePrecision("voc2010", class_names=["cat"])
        >>> box = np.array([[[10, 10, 50, 40]]])
        >>> metric.update_state({"boxes": box, "labels": [[0]]}, {"boxes": box, "labels": [[0]], "scores": [[0.9]]})
        >>> metric.result()
        {'mAP': 1.0, 'per_class': {'cat': {'AP': 1.0}}}
    """

    def __init__(
        self, protocol: str = "coco", class_names: Sequence[str] | None = None, inclusive_pixels: bool = False
    ):
        if protocol not in PROTOCOLS:
            raise ValueError(unknown_name("protocol", protocol, PROTOCOLS))
        self.protocol = protocol
        self.class_names = None if class_names is None else list(class_names)
        limit = coco.MAX_DETECTIONS[-1] if protocol == "coco" else None
        self.records = Records(max_detections=limit, inclusive_pixels=inclusive_pixels)

    def reset_state(self) -> None:
        """Forgets all batches."""
        self.records.clear()

    def update_state(self, targets: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Adds a batch of any size; arrays of any backend, padded with labels −1.

        Args:
            targets: "boxes" (B, N, 4) xyxy and "labels" (B, N); where known also "difficult" (B, N), "crowd" (B, N),
                "area" (B, N) (in the boxes' units; box area where absent) and "image_id" (B,), which settles the order
                of images and with it the ranks of equal scores.
            found: "boxes" (B, K, 4), "labels" (B, K), "scores" (B, K), as from `detect`.

        Raises:
            ValueError: shapes that do not fit, NaN scores, or a label beyond `class_names`.
        """
        if self.class_names is not None:
            for name, batch in (("targets", targets), ("found", found)):
                top = int(np.max(as_numpy(batch.get("labels", -1)), initial=-1))
                if top >= len(self.class_names):
                    raise ValueError(
                        f"`{name}` holds label {top}, but `class_names` names {len(self.class_names)} classes "
                        f"(labels 0 to {len(self.class_names) - 1}); are both from the same data set?"
                    )
        self.records.add(targets, found)

    def result(self) -> dict[str, Any]:
        """Measures everything so far.

        Returns:
            For "coco": "mAP", "mAP@0.50", "mAP@0.75", "mAP_small", "mAP_medium", "mAP_large", "AR@1", "AR@10",
            "AR@100", "AR_small", "AR_medium", "AR_large" (the twelve numbers of COCO), and "per_class": name (or label)
            -> {"AP", "AP@0.50", "AP@0.75", "AR@100"}. For VOC: "mAP" and "per_class": name -> {"AP"}. All are Python
            floats in 0..1, or −1 where there was nothing to measure.
        """
        return self._coco() if self.protocol == "coco" else self._voc()

    def classes(self, seen: Iterable[int]) -> list[tuple[int, str | int]]:
        """Pairs (label, its key in "per_class"): all of `class_names`, or else the labels seen."""
        return [(label, label) for label in seen] if self.class_names is None else list(enumerate(self.class_names))

    def _coco(self) -> dict[str, Any]:
        scores = {label: coco.score(truth, found) for label, truth, found in self.records.by_class()}
        shape = (len(coco.IOU_THRESHOLDS), len(coco.AREAS))
        absent = coco.ClassScores(-np.ones(shape), -np.ones((*shape, len(coco.MAX_DETECTIONS))))
        precision = np.stack([s.precision for s in scores.values()] or [absent.precision])
        recall = np.stack([s.recall for s in scores.values()] or [absent.recall])
        t50, t75 = 0, 5
        summary = {
            "mAP": _mean(precision[:, :, 0]),
            "mAP@0.50": _mean(precision[:, t50, 0]),
            "mAP@0.75": _mean(precision[:, t75, 0]),
        }
        summary |= {f"mAP_{name}": _mean(precision[:, :, a]) for a, name in enumerate(coco.AREAS) if a}
        summary |= {f"AR@{limit}": _mean(recall[:, :, 0, m]) for m, limit in enumerate(coco.MAX_DETECTIONS)}
        summary |= {f"AR_{name}": _mean(recall[:, :, a, -1]) for a, name in enumerate(coco.AREAS) if a}
        per_class = {}
        for label, name in self.classes(scores):
            s = scores.get(label, absent)
            per_class[name] = {
                "AP": _mean(s.precision[:, 0]),
                "AP@0.50": float(s.precision[t50, 0]),
                "AP@0.75": float(s.precision[t75, 0]),
                "AR@100": _mean(s.recall[:, 0, -1]),
            }
        return {**summary, "per_class": per_class}

    def _voc(self) -> dict[str, Any]:
        points = 11 if self.protocol == "voc2007" else None
        scores = {label: voc.score(truth, found, points) for label, truth, found in self.records.by_class()}
        per_class = {name: {"AP": scores.get(label, -1.0)} for label, name in self.classes(scores)}
        return {"mAP": _mean(np.array([s["AP"] for s in per_class.values()])), "per_class": per_class}


def _mean(values: np.ndarray) -> float:
    """The mean of what could be measured, −1 if nothing could."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0

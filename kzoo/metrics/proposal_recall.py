"""Recall of region proposals: which objects have a proposal that fits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kzoo import boxes as box_ops
from kzoo.metrics.records import as_numpy

COUNTS = (10, 30, 100, 300, 1000, 2000)
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))


class ProposalRecall:
    """The share of objects that some proposal overlaps by at least an IoU, for several IoUs and numbers of proposals.

    Each object takes the proposal that fits it best among the first n of its image; two objects may take the same, as
    in the papers on proposals (Uijlings et al., IJCV 2013, section 5; Hosang et al., PAMI 2016). Difficult objects and
    crowds do not count.

    Args:
        counts: numbers of proposals an image.
        iou_thresholds: 0..1; .5 to .95 for COCO's average recall.
        class_names: keys of "per_class"; `None` takes the labels themselves, as far as they occur.

    Example:
        >>> metric = ProposalRecall(counts=(1, 2))
        >>> targets = {"boxes": np.array([[[0, 0, 10, 10.0]]]), "labels": np.array([[0]])}
        >>> metric.update_state(targets, np.array([[[50, 50, 60, 60], [0, 0, 10, 8.0]]]))
        >>> metric.result()["recall"][:, 0]
        array([0., 1.])
    """

    def __init__(
        self,
        counts: Sequence[int] = COUNTS,
        iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
        class_names: Sequence[str] | None = None,
    ):
        if not counts or min(counts) < 1 or not iou_thresholds:
            raise ValueError(
                f"counts must be at least 1, thresholds at least one. Received: {counts}, {iou_thresholds}."
            )
        self.counts, self.iou_thresholds = tuple(counts), tuple(iou_thresholds)
        self.class_names = None if class_names is None else list(class_names)
        self.reset_state()

    def reset_state(self) -> None:
        """Forgets all batches."""
        self._best = [np.zeros((0, len(self.counts)))]  # IoU of each object with its best proposal
        self._labels = [np.zeros(0, np.int64)]
        self._proposals = []  # number of each image

    def update_state(self, targets: Mapping[str, Any], proposals: Any = None) -> None:
        """Adds a batch of any size.

        Args:
            targets: "boxes" (B, N, 4) and "labels" (B, N), -1 where padded; "difficult" and "crowd" (B, N) where known.
            proposals: (B, P, 4) xyxy, best first, padded without area; None for `targets["proposals"]`.
        """
        boxes, labels = as_numpy(targets["boxes"]), as_numpy(targets["labels"])
        regions = as_numpy(targets["proposals"] if proposals is None else proposals)
        if regions.ndim != 3 or len(regions) != len(labels) or regions.shape[-1] != 4:
            raise ValueError(f"proposals must be ({len(labels)}, P, 4), as the targets. Received: {regions.shape}.")
        counts = labels >= 0
        for key in ("difficult", "crowd"):
            if key in targets:
                counts &= ~as_numpy(targets[key]).astype(bool)
        for i in range(len(labels)):
            # In the middle of the others, padding would count among the first n.
            own = regions[i][box_ops.area(regions[i]) > 0]
            # In float64: an IoU of .65 that is exact would lie below the threshold .65 in float32.
            true = boxes[i][counts[i]].astype(np.float64)
            overlap = box_ops.iou(true, own.astype(np.float64)) if len(own) else np.zeros((len(true), 1))
            best = np.maximum.accumulate(overlap, axis=1)
            last = np.minimum(self.counts, best.shape[1]) - 1
            self._best.append(best[:, last])
            self._labels.append(labels[i][counts[i]].astype(np.int64))
            self._proposals.append(len(own))

    def result(self) -> dict[str, Any]:
        """Measures everything so far.

        Returns:
            "recall" (counts, thresholds), "average_recall" (counts,), the mean over the thresholds, "mean_best_iou"
            (counts,) — each 0..1, or NaN without any object; "per_class": name (or label) -> recall at the first
            threshold (counts,); "counts", "iou_thresholds", "objects", "images", "proposals_per_image".
        """
        best, labels = np.concatenate(self._best), np.concatenate(self._labels)
        names = sorted(set(labels.tolist())) if self.class_names is None else self.class_names
        keys = names if self.class_names is None else range(len(names))
        recall = self._recall(best)
        return {
            "counts": self.counts,
            "iou_thresholds": self.iou_thresholds,
            "recall": recall,
            "average_recall": recall.mean(axis=1),
            "mean_best_iou": best.mean(axis=0) if len(best) else np.full(len(self.counts), np.nan),
            "per_class": {name: self._recall(best[labels == key])[:, 0] for key, name in zip(keys, names, strict=True)},
            "objects": len(best),
            "images": len(self._proposals),
            "proposals_per_image": float(np.mean(self._proposals)) if self._proposals else 0.0,
        }

    def _recall(self, best: np.ndarray) -> np.ndarray:
        if len(best) == 0:
            return np.full((len(self.counts), len(self.iou_thresholds)), np.nan)
        return (best[:, :, None] >= np.array(self.iou_thresholds)).mean(axis=0)

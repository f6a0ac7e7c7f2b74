"""Pictures of region proposals: the ones that fit the objects, and recall."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import boxes as box_ops
from kzoo.visualize.draw import draw_boxes
from kzoo.visualize.figures import class_colour, figure, write


def proposal_recall(result: Mapping[str, Any], path: str | Path) -> Path:
    """Draws what `kzoo.metrics.ProposalRecall.result` returned: recall against IoU and against their number."""
    counts, thresholds, recall = result["counts"], result["iou_thresholds"], result["recall"]
    made, (left, right) = figure(columns=2)
    for i, count in enumerate(counts):
        left.plot(thresholds, recall[i], color=class_colour(i), marker="o", markersize=3, label=f"{count} proposals")
    shown = [j for j, threshold in enumerate(thresholds) if threshold in (0.5, 0.7, 0.9)]
    for i, j in enumerate(shown):
        right.plot(counts, recall[:, j], color=class_colour(i), marker="o", label=f"IoU {thresholds[j]:g}")
    right.plot(counts, result["average_recall"], color="black", linewidth=2.4, label="mean over the IoUs")
    right.set_xscale("log")
    left.set(xlabel="IoU", ylabel="recall", ylim=(-0.02, 1.02))
    right.set(xlabel="proposals an image", ylabel="recall", ylim=(-0.02, 1.02))
    for axis in (left, right):
        axis.legend(fontsize=8)
    left.set_title(f"{result['objects']} objects in {result['images']} images")
    return write(made, path)


def draw_proposals(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, proposals: np.ndarray, iou: float = 0.5
) -> np.ndarray:
    """Draws, for each object, the proposal that fits it best, with their IoU; objects without one are dashed.

    Args:
        image: (H, W, 3), values 0..255.
        boxes: (N, 4) of the objects; labels: (N,), -1 where padded.
        proposals: (P, 4), padded without area.
        iou: from which on a proposal fits.

    Returns:
        The picture, uint8 (H, W, 3).
    """
    boxes, labels, proposals = np.asarray(boxes), np.asarray(labels), np.asarray(proposals)
    boxes, labels = boxes[labels >= 0], labels[labels >= 0]
    overlap = box_ops.iou(boxes, proposals) if len(proposals) else np.zeros((len(boxes), 1))
    best = overlap.max(axis=1, initial=0.0)
    fits = best >= iou
    picture = draw_boxes(image, boxes[~fits], np.zeros(int((~fits).sum()), int), None, ["missed"], dashed=True)
    if not fits.any():
        return picture
    chosen = proposals[overlap.argmax(axis=1)[fits]]
    return draw_boxes(picture, chosen, np.full(len(chosen), 3), best[fits], ["", "", "", "IoU"])

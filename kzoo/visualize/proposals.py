"""Pictures of region proposals: the ones that fit the objects, recall, and the stages of a two-stage detector."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import boxes as box_ops
from kzoo.messages import counted
from kzoo.visualize.draw import draw_boxes
from kzoo.visualize.figures import class_colour, figure, write
from kzoo.visualize.grids import grid


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
    left.set_title(f"{counted(result['objects'], 'object')} in {counted(result['images'], 'image')}")
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


def region_stages(
    images: np.ndarray,
    proposed: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    class_names: Sequence[str] | None = None,
    count: int = 40,
    score_threshold: float = 0.5,
    cell: int = 480,
) -> np.ndarray:
    """Draws how a two-stage detector comes to its boxes: the best anchors, the proposals, the detections; a row each.

    Args:
        images: (B, H, W, 3), values 0..255.
        proposed: what `FasterRCNN.propose(images)` returned: "anchors", "anchor_scores" and "proposals".
        found: what `detect(images)` returned.
        class_names: names by class id.
        count: how many anchors and how many proposals to draw, best first.
        score_threshold: detections that score less are not drawn.
        cell: side of a picture, pixels.

    Returns:
        uint8 (H, W, 3).
    """
    pictures = []
    for i, image in enumerate(images):
        for boxes in (proposed["anchors"][i], proposed["proposals"][i]):
            shown = boxes[box_ops.area(boxes) > 0][:count]
            pictures.append(draw_boxes(image, shown, np.full(len(shown), 3), None, [""] * 4))
        parts = (found[key][i] for key in ("boxes", "labels", "scores"))
        pictures.append(draw_boxes(image, *parts, class_names, score_threshold=score_threshold))
    return grid(pictures, columns=3, cell=cell, header=["best anchors", "proposals", "detections"])
